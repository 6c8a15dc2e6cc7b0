"""The cursor gives the same pieces whatever the lengths in which the bytes come."""

import pytest

from app.api.streams.cursor import Cursor
from app.errors import BadArchive
from tests.streams import chunked

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_pieces_lie_across_chunks(size: int) -> None:
    cursor = Cursor(chunked(b"abcdefghij", size), "archive")
    assert await cursor.read(3) == b"abc"
    await cursor.skip(2)
    assert (cursor.at, await cursor.read(4)) == (5, b"fghi")
    cursor.back(b"hi")
    assert (cursor.at, await cursor.read(3)) == (7, b"hij")
    assert await cursor.some() == b""


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_lines_lie_across_chunks_and_of_a_long_one_only_the_beginning_is_kept(size: int) -> None:
    cursor = Cursor(chunked(b"abcd\n\nabcdefghijkl\nxy", size), "stream")
    lines = []
    while (line := await cursor.line(4)) is not None:
        lines.append(line)
    assert lines == [b"abcd", b"", b"abcde", b"xy"]  # five of twelve letters: more than the four that are taken


async def test_the_end_is_told_with_its_place() -> None:
    cursor = Cursor(chunked(b"abcde", 2), "archive")
    await cursor.read(2)
    with pytest.raises(BadArchive, match="ends at byte 5, 8 were due from 2"):
        await cursor.read(8)
    with pytest.raises(BadArchive, match="ends at byte 5"):
        await Cursor(chunked(b"abcde", 2), "archive").skip(6)
