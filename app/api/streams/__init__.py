"""Crops as they come in, in whatever wrapping: a form, a tar, a zip, lines of JSON, an array. Memory holds one at a time."""

from collections.abc import AsyncIterator

from app.api.limits import RequestLimits
from app.api.streams.body import Body
from app.api.streams.cursor import Cursor
from app.api.streams.form import Form, read_form
from app.api.streams.lines import numbers, read_lines
from app.api.streams.members import crops_of
from app.api.streams.npy import read_npy
from app.api.streams.tar import read_tar
from app.api.streams.zip import read_zip
from app.errors import TooLarge, UnsupportedMedia
from app.service.incoming import New

FORM, TAR, ZIP, LINES, NPY = (
    "multipart/form-data", "application/x-tar", "application/zip", "application/x-ndjson", "application/x-npy",
)  # fmt: skip
KINDS = (FORM, TAR, ZIP, LINES, NPY)
__all__ = ["FORM", "KINDS", "LINES", "NPY", "TAR", "ZIP", "Body", "numbers", "read_crops"]


def read_crops(body: Body, kind: str, content_type: str, limits: RequestLimits, together: bool) -> AsyncIterator[New]:
    """What is in a body of this media type. together: it is answered as a whole, and so holds no more than a request may.

    Raises UnsupportedMedia for another type, BadRequest for a form without a boundary; the iterator, what the readers raise.
    """
    most = limits.crops if together else None
    match kind:
        case "multipart/form-data":
            entries = read_form(Form(body.chunks(), content_type), limits.crop_bytes, most)
        case "application/x-tar":
            entries = crops_of(read_tar(Cursor(body.chunks(), "archive")), limits.crop_bytes)
        case "application/zip":
            entries = crops_of(read_zip(Cursor(body.chunks(), "archive")), limits.crop_bytes)
        case "application/x-ndjson":
            entries = read_lines(Cursor(body.chunks(), "stream"), limits.body(1))
        case "application/x-npy":
            entries = read_npy(Cursor(body.chunks(), "array"))
        case _:
            raise UnsupportedMedia(
                f"content type {kind or 'missing'!r}; this route takes {', '.join(KINDS)}, or application/json with vectors"
            )
    return _at_most(entries, limits.crops if together else limits.stream_entries, together)


async def _at_most(entries: AsyncIterator[New], most: int, together: bool) -> AsyncIterator[New]:
    count = 0
    async for entry in entries:
        count += 1
        if count > most:
            hint = "; ask for lines (Accept: application/x-ndjson) to send a stream" if together else ""
            raise TooLarge(f"more than {most} crops in one request{hint}")
        yield entry
