"""Crops or vectors in NDJSON: an object a line. A line that cannot be used refuses itself, and the next one is read."""

import asyncio
import base64
from collections.abc import AsyncIterator

import numpy as np
from pydantic import ValidationError

from app.api.schemas import LineIn
from app.api.streams.cursor import Cursor
from app.api.streams.said import description, first_fault
from app.core.metrics import Floats
from app.errors import BadInput, TooLarge
from app.service.embed import Upload
from app.service.incoming import New, NewCrop, NewVector, Unusable

_LONG = 64 * 1024  # from here on a line is read in a thread: 0.2 ms of parsing and base64 keep nobody waiting


async def read_lines(cursor: Cursor, line_bytes: int) -> AsyncIterator[New]:
    """Line by line, each at most so long; empty ones are left out."""
    number = 0
    while (line := await cursor.line(line_bytes)) is not None:
        number += 1
        if len(line) > line_bytes:
            yield Unusable(f"line {number}", TooLarge(f"line {number}: more than {line_bytes} bytes"))
        elif line.strip():
            yield await asyncio.to_thread(_new, line, number) if len(line) > _LONG else _new(line, number)


def numbers(given: str | list[float], name: str) -> Floats | BadInput:
    """Float32 [n] of a vector in JSON, or why there are none: one bad vector refuses itself."""
    if isinstance(given, list):
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            return np.array(given, dtype=np.float64).astype(np.float32)
    try:
        return np.frombuffer(base64.b64decode(given, validate=True), dtype="<f4").astype(np.float32)
    except ValueError:
        return BadInput(f"{name}: the vector is not base64 of float32 numbers")


def _new(line: bytes, number: int) -> New:
    name = f"line {number}"
    try:
        given = LineIn.model_validate_json(line)
    except ValidationError as error:
        return Unusable(name, BadInput(f"{name}: {first_fault(error)}"))
    name = given.source or name
    if (given.image is None) == (given.vector is None):
        return Unusable(name, BadInput(f"{name}: a line has either `image` or `vector`"))
    if given.vector is not None:
        return NewVector(name, numbers(given.vector, name), given.source, description(given))
    assert given.image is not None
    try:
        data = base64.b64decode(given.image.rpartition(",")[2], validate=True)
    except ValueError:
        return Unusable(name, BadInput(f"{name}: `image` is not base64"))
    return NewCrop(Upload(name, data), description(given))
