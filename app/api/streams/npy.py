"""Crops as one NumPy array, uint8 [n, 256, 128, 3], in the `.npy` format: nothing is left to decode."""

import ast
import struct
from collections.abc import AsyncIterator, Sequence

import numpy as np

from app.api.streams.cursor import Cursor
from app.core.preprocess import HEIGHT, WIDTH
from app.errors import BadArchive, BadField
from app.service.incoming import Description, New, NewPixels

_SHAPE = (HEIGHT, WIDTH, 3)
_CROP_BYTES = HEIGHT * WIDTH * 3
_HEADER_BYTES = 10_000  # NumPy's own limit: more is not safe to evaluate


async def read_npy(
    cursor: Cursor, entries: Sequence[tuple[str | None, Description]] | None = None
) -> AsyncIterator[New]:
    """Crop by crop. entries: of each a name, if it has one, and what is said of it.

    Raises BadArchive for another array, or one cut short; BadField for more or fewer entries than crops.
    """
    count = await _count(cursor)
    if entries is not None and len(entries) != count:
        raise BadField("items", f"{len(entries)} lines for {count} crops")
    for position in range(count):
        pixels = np.frombuffer(await cursor.read(_CROP_BYTES), np.uint8).reshape(_SHAPE)
        name, said = (None, Description()) if entries is None else entries[position]
        yield NewPixels(name or f"crops.{position}", pixels, name, said)
    if await cursor.some():
        raise BadArchive(f"the array goes on behind its {count} crops; nothing of that was read")


async def _count(cursor: Cursor) -> int:
    start = await cursor.read(8)
    if not start.startswith(b"\x93NUMPY") or start[6] not in (1, 2, 3):
        raise BadArchive("no `.npy` file of version 1, 2 or 3: it does not begin as one")
    form = "<H" if start[6] == 1 else "<I"
    (length,) = struct.unpack(form, await cursor.read(struct.calcsize(form)))
    if length > _HEADER_BYTES:
        raise BadArchive(f"a header of {length} bytes; at most {_HEADER_BYTES} are read")
    text = (await cursor.read(length)).decode("utf-8" if start[6] == 3 else "latin-1", "replace")
    # NumPy's own reader lets errors of its tokenizer through and warns; the header is a literal, no more.
    try:
        header = ast.literal_eval(text.strip())
        kind, fortran, shape = header["descr"], header["fortran_order"], tuple(header["shape"])
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError) as error:
        raise BadArchive("a broken header: it does not tell `descr`, `fortran_order` and `shape`") from error
    if kind not in ("|u1", "<u1", ">u1") or fortran or shape[1:] != _SHAPE or not _is_count(shape[0]):
        order = ", in Fortran's order" if fortran else ""
        raise BadArchive(f"an array of {kind} {shape}{order}; crops are |u1 (n, {HEIGHT}, {WIDTH}, 3), which is uint8")
    return int(shape[0])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
