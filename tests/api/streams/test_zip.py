"""Zips as they come in: what the standard library writes is read without waiting for the directory; lies are told."""

import io
import os
import struct
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.streams.cursor import Cursor
from app.api.streams.members import crops_of
from app.api.streams.zip import read_zip
from app.errors import BadArchive, ReidError, TooLarge
from app.service.incoming import NewCrop, Unusable
from tests.streams import Pipe, chunked, read_all, zip_of

pytestmark = pytest.mark.anyio
FILES = {"a.jpg": b"one" * 100, "größe/b.png": b"", "c.bmp": os.urandom(3000), "folder/": b""}


async def files_in(data: bytes, size: int = 65536, most: int = 10**6) -> tuple[dict[str, bytes], ReidError | None]:
    """Name -> bytes of what is read, every second one skipped unread."""
    found: dict[str, bytes] = {}
    try:
        async for member in read_zip(Cursor(chunked(data, size), "archive")):
            found[member.name] = b"-" if len(found) % 2 else await member.read(most)
    except ReidError as error:
        return found, error
    return found, None


async def one_in(data: bytes, most: int = 10**6) -> tuple[str, ReidError | None]:
    """Of an archive whose first entry is bad and whose second is `good.jpg`: the refusal of the first."""
    news, error = await read_all(crops_of(read_zip(Cursor(chunked(data), "archive")), most))
    assert error is None, error
    bad, good = news
    assert isinstance(bad, Unusable)
    assert isinstance(good, NewCrop)
    assert (good.name, good.upload.data) == ("good.jpg", b"good")
    return str(bad.error), bad.error


@pytest.mark.parametrize("size", [1, 700, 65536])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
async def test_files_come_as_they_were_written_whatever_the_chunks(method: int, size: int) -> None:
    found, error = await files_in(zip_of(FILES, method), size)
    assert error is None
    assert found == {name: b"-" if i % 2 else data for i, (name, data) in enumerate(FILES.items())}


@pytest.mark.parametrize("size", [1, 700, 65536])
async def test_a_zip_from_a_pipe_tells_its_lengths_behind_the_data(size: int) -> None:
    found, error = await files_in(zip_of(FILES, piped=True), size)
    assert error is None
    assert found == {name: b"-" if i % 2 else data for i, (name, data) in enumerate(FILES.items())}


@pytest.mark.parametrize("piped", [False, True])
async def test_lengths_of_eight_bytes_are_read(piped: bool) -> None:
    buffer: io.BytesIO = Pipe() if piped else io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.jpg", "b.jpg"):
            with archive.open(name, "w", force_zip64=True) as entry:
                entry.write(name.encode() * 50)
    found, error = await files_in(buffer.getvalue())
    assert (found, error) == ({"a.jpg": b"a.jpg" * 50, "b.jpg": b"-"}, None)


async def test_a_stored_entry_of_unknown_length_ends_the_archive_with_advice() -> None:
    found, error = await files_in(zip_of({"a.jpg": b"a" * 50}, zipfile.ZIP_STORED, piped=True))
    assert found == {}
    assert "write the zip to a file" in str(error)


async def test_a_comment_and_no_entry_at_all_are_no_faults() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"c" * 60_000
    assert await files_in(buffer.getvalue(), 1000) == ({}, None)


@pytest.mark.parametrize("piped", [False, True])
async def test_wherever_a_zip_is_cut_the_files_before_are_whole_and_the_end_is_told(piped: bool) -> None:
    data = zip_of({"a.jpg": b"a" * 40, "b.jpg": b"b" * 40}, piped=piped)
    for cut in range(len(data)):
        found, error = await files_in(data[:cut])
        assert isinstance(error, BadArchive), cut
        assert "cut short" in str(error)
        assert found.get("a.jpg", b"a" * 40) == b"a" * 40
    assert (await files_in(data))[1] is None


async def test_an_entry_that_the_directory_tells_of_and_that_did_not_come_is_missed() -> None:
    data = zip_of({"a.jpg": b"a", "b.jpg": b"b"})
    second = data.index(b"PK\3\4", 4)
    _, error = await files_in(data[second:])
    assert "tells of 2 entries, 1 came" in str(error)


async def test_garbage_between_entries_is_told_with_its_place() -> None:
    data = zip_of({"a.jpg": b"a", "b.jpg": b"b"})
    second = data.index(b"PK\3\4", 4)
    found, error = await files_in(data[:second] + b"garbage" + data[second:])
    assert list(found) == ["a.jpg"]
    assert f"byte {second}: no header of a zip entry" in str(error)


def entry(
    name: str, data: bytes, size: int | None = None, crc: int | None = None, method: int = 8, flags: int = 0
) -> bytes:
    """A local header and data, with whatever is said in the header instead of the truth."""
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(data) + packer.flush() if method == 8 else data
    fields = (
        20,
        flags,
        method,
        0,
        0,
        zlib.crc32(data) if crc is None else crc,
        len(packed),
        len(data) if size is None else size,
    )
    return struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *fields, len(name), 0) + name.encode() + packed


GOOD = entry("good.jpg", b"good")
END = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 2, 2, 0, 0, 0)


@pytest.mark.parametrize("method", [0, 8])
async def test_an_entry_that_lies_about_its_length_or_bytes_is_refused_and_the_next_is_read(method: int) -> None:
    lies = {
        "says it has 3 bytes": entry("bad.jpg", b"x" * 900, size=3, method=method),
        "says it has 2000 bytes": entry("bad.jpg", b"x" * 900, size=2000, method=method),
        "checksum does not fit": entry("bad.jpg", b"x" * 900, crc=1, method=method),
    }
    for sentence, lie in lies.items():
        told, _ = await one_in(lie + GOOD + END)
        assert sentence in told


async def test_what_cannot_be_unpacked_is_refused_and_the_next_is_read() -> None:
    stored = entry("bad.jpg", b"\xff" * 90, method=0)
    broken = {
        "cannot be inflated": stored[:8] + b"\x08\0" + stored[10:],  # the method says that it is deflated
        "encrypted": entry("bad.jpg", b"x", flags=1),
        "method 12": entry("bad.jpg", b"x", method=12),
    }
    for sentence, data in broken.items():
        told, _ = await one_in(data + GOOD + END)
        assert sentence in told


async def test_a_bomb_is_refused_by_the_size_it_tells_and_not_inflated_further_than_that() -> None:
    bomb = bytes(10**7)  # a thousandth of that when packed
    _, honest = await one_in(entry("bad.jpg", bomb) + GOOD + END, most=1000)
    assert isinstance(honest, TooLarge)
    told, _ = await one_in(entry("bad.jpg", bomb, size=900) + GOOD + END, most=1000)
    assert told == "bad.jpg: says it has 900 bytes, and has more"


async def test_a_bomb_that_tells_no_size_is_counted_and_not_kept() -> None:
    data = zip_of({"bad.jpg": bytes(10**7), "good.jpg": b"good"}, piped=True)
    told, error = await one_in(data, most=1000)
    assert isinstance(error, TooLarge)
    assert "10000000 bytes or more" in told


async def test_a_bomb_without_an_end_ends_the_archive() -> None:
    data = zip_of({"bad.jpg": bytes(10**7)}, piped=True)
    _, error = await read_all(read_zip(Cursor(chunked(data), "archive"), bomb_bytes=10**6))
    assert "inflates to more than 1000000 bytes" in str(error)


def mutated() -> st.SearchStrategy[bytes]:
    """A zip, from a file or a pipe, with some bytes changed and a piece cut out."""
    bases = [zip_of(FILES), zip_of(FILES, zipfile.ZIP_STORED), zip_of(FILES, piped=True)]

    def change(base: bytes, edits: list[tuple[int, int]], cut: tuple[int, int]) -> bytes:
        data = bytearray(base)
        for place, value in edits:
            data[place % len(data)] = value
        start = cut[0] % len(data)
        return bytes(data[:start] + data[start + cut[1] :])

    places = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=6)
    return st.builds(change, st.sampled_from(bases), places, st.tuples(st.integers(0, 10**4), st.integers(0, 60)))


@given(data=mutated())
@settings(max_examples=200, deadline=None)
async def test_a_damaged_zip_gets_a_sentence_and_never_a_fault(data: bytes) -> None:
    await files_in(data)  # whatever is no refusal goes through
