"""The parts of a form (multipart/form-data) as they come in. Starlette's reader ends with the form; this one does not wait.

Fields: `image`, a crop each, with `metadata` about them; or `crops`, an array of crops (`.npy`), with `items` about those.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.api.streams.cursor import Cursor
from app.api.streams.npy import read_npy
from app.api.streams.said import Said, description, read_entries, read_metadata
from app.errors import BadArchive, BadField, BadRequest, TooLarge
from app.service.embed import Upload
from app.service.incoming import Description, New, NewCrop, Unusable

_METADATA_BYTES, _ITEMS_BYTES = 2**20, 8 * 2**20
_FIELDS = "`image` and `metadata`, or `crops` and `items`"


@dataclass(slots=True)
class Part:
    """A field of the form. `chunks` gives its bytes, once."""

    name: str
    file_name: str | None
    chunks: AsyncIterator[bytes]

    async def data(self, most: int) -> bytes:
        """All bytes. Raises TooLarge, when all were seen and none kept, where there are more."""
        data, size = bytearray(), 0
        async for chunk in self.chunks:
            size += len(chunk)
            data += chunk if size <= most else b""
        if size > most:
            raise TooLarge(f"{self.file_name or self.name}: {size} bytes; at most {most} are taken")
        return bytes(data)


@dataclass(slots=True)
class _Headers:
    values: dict[bytes, bytes] = field(default_factory=dict)
    name: bytes = b""
    value: bytes = b""

    def end(self) -> None:
        self.values[self.name.lower()] = self.value
        self.name, self.value = b"", b""


class Form:
    """A form's parts in order; a part is read before the next one is asked for. Raises BadRequest, BadArchive."""

    def __init__(self, chunks: AsyncIterator[bytes], content_type: str) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise BadRequest("the form has no boundary")
        self._chunks, self._came, self._ended = chunks, 0, False
        self._events: deque[_Headers | bytes | None] = deque()  # a part's headers, its bytes, None for its end
        self._headers = _Headers()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._add_name(data[start:end]),
                "on_header_value": lambda data, start, end: self._add_value(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": lambda: self._events.append(self._headers),
                "on_part_data": lambda data, start, end: self._events.append(bytes(data[start:end])),
                "on_part_end": lambda: self._events.append(None),
                "on_end": self._end,
            },
        )

    async def parts(self) -> AsyncIterator[Part]:
        """One after the other."""
        while await self._filled():
            headers = self._events.popleft()
            assert isinstance(headers, _Headers)
            part = _part(headers, self._data())
            yield part
            async for _ in part.chunks:  # what nobody read
                pass

    async def _data(self) -> AsyncIterator[bytes]:
        while await self._filled():
            data = self._events.popleft()
            if data is None:
                return
            assert isinstance(data, bytes)
            yield data

    async def _filled(self) -> bool:
        """Whether something more comes; then it is there."""
        while not self._events and not self._ended:
            chunk = await anext(self._chunks, b"")
            if not chunk:
                raise BadArchive(f"the form is cut short: it ends at byte {self._came}, without its last boundary")
            self._came += len(chunk)
            try:
                self._parser.write(chunk)
            except MultipartParseError as error:
                raise BadRequest(f"the multipart body cannot be read: {error}") from error
        if not self._events:
            async for _ in self._chunks:  # what follows the last boundary means nothing
                pass
        return bool(self._events)

    def _begin(self) -> None:
        self._headers = _Headers()

    def _add_name(self, data: bytes) -> None:
        self._headers.name += data

    def _add_value(self, data: bytes) -> None:
        self._headers.value += data

    def _end_header(self) -> None:
        self._headers.end()

    def _end(self) -> None:
        self._ended = True


def _part(headers: _Headers, chunks: AsyncIterator[bytes]) -> Part:
    kind, options = parse_options_header(headers.values.get(b"content-disposition", b"").decode("latin-1"))
    if kind != b"form-data" or b"name" not in options:
        raise BadRequest("the multipart body cannot be read: a part without a name")
    file_name = options.get(b"filename")
    return Part(_text(options[b"name"]), None if file_name is None else _text(file_name), chunks)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


async def read_form(form: Form, max_bytes: int, most: int | None) -> AsyncIterator[New]:
    """The crops of a form. most: crops there may be in one that is held whole, so that `metadata` may come last.

    Raises BadField, TooLarge, and what the array's reader raises.
    """
    reader = _Fields(max_bytes, most)
    async for part in form.parts():
        async for new in reader.read(part):
            yield new
    for new in reader.rest():
        yield new


class _Fields:
    def __init__(self, max_bytes: int, most: int | None) -> None:
        self._max_bytes, self._most = max_bytes, most
        self._said: Said | None = None
        self._entries: list[tuple[str | None, Description]] | None = None
        self._held: list[Upload | Unusable] = []
        self._images = self._arrays = 0

    async def read(self, part: Part) -> AsyncIterator[New]:
        match part.name:
            case "image":
                new = await self._image(part)
                if self._most is None:
                    yield self._described(new)
                else:
                    self._held.append(new)
            case "metadata":
                self._said = await self._metadata(part)
            case "items":
                self._entries = await self._about(part)
            case "crops":
                self._arrays += 1
                async for crop in read_npy(Cursor(part.chunks, "array"), self._entries):
                    yield crop
            case _:
                raise BadField(
                    part.name, f"is no field of this form, which has {_FIELDS}; options are query parameters"
                )

    def rest(self) -> list[New]:
        """What had to wait for the form's end. Raises BadField where the form has no crop, or less than is described."""
        if not self._images and not self._arrays:
            raise BadField("image", "the form has no file in the field `image`")
        held: list[New] = [self._described(new) for new in self._held]
        if self._said is not None:
            self._said.finish()
        return held

    async def _image(self, part: Part) -> Upload | Unusable:
        if part.file_name is None:
            raise BadField("image", "is text; send a file (with curl: -F image=@crop.jpg)")
        self._images += 1
        if self._most is not None and self._images > self._most:
            raise TooLarge(f"more than {self._most} crops in one request")
        name = part.file_name or "image"
        try:
            return Upload(name, await part.data(self._max_bytes))
        except TooLarge as error:
            return Unusable(name, error)

    def _described(self, new: Upload | Unusable) -> New:
        said = self._said.of(new.name) if self._said is not None else None
        if isinstance(new, Unusable):
            return new
        return NewCrop(new, said) if said is not None else NewCrop(new)

    async def _metadata(self, part: Part) -> Said:
        if part.file_name is not None:
            raise BadField("metadata", "is a file; send JSON as text")
        if self._most is None and self._images:
            raise BadField("metadata", "comes after an image; in a stream it stands before the first one")
        return await asyncio.to_thread(read_metadata, await part.data(_METADATA_BYTES))

    async def _about(self, part: Part) -> list[tuple[str | None, Description]]:
        if self._arrays:
            raise BadField("items", "comes after the crops; put it before them")
        text = await part.data(_ITEMS_BYTES)
        return await asyncio.to_thread(lambda: [(e.name, description(e)) for _, e in read_entries(text, "items")])
