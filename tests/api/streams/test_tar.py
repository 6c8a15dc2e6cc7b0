"""Tars as they come in: what the standard library writes is read, in chunks of any length; what is broken says where."""

import gzip
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.streams.cursor import Cursor
from app.api.streams.tar import read_tar
from app.errors import BadArchive, ReidError
from tests.streams import chunked, read_all, tar_of

pytestmark = pytest.mark.anyio
FILES = {"a.jpg": b"one", "folder/" + "n" * 180 + ".jpg": bytes(1500), "größe.png": b"", "b.bmp": b"x" * 512}


async def files_in(data: bytes, size: int = 65536) -> tuple[dict[str, bytes], ReidError | None]:
    """Name -> bytes of what is read, every second one skipped unread."""
    found: dict[str, bytes] = {}
    try:
        async for member in read_tar(Cursor(chunked(data, size), "archive")):
            found[member.name] = b"-" if len(found) % 2 else await member.read(10**6)
    except ReidError as error:
        return found, error
    return found, None


@pytest.mark.parametrize("size", [1, 511, 512, 700, 65536])
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
async def test_files_come_as_they_were_written_whatever_the_chunks(format: int, size: int) -> None:
    found, error = await files_in(tar_of(FILES, format), size)
    assert error is None
    wanted = {name: b"-" if i % 2 else data for i, (name, data) in enumerate(FILES.items())}
    assert found == wanted


async def test_what_is_no_plain_file_says_what_it_is_and_has_no_data() -> None:
    extra = []
    kinds = {
        tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link", tarfile.CHRTYPE: "a device",
        tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe", tarfile.DIRTYPE: "directory",
    }  # fmt: skip
    for kind in kinds:
        entry = tarfile.TarInfo(f"x{kind.decode()}.jpg")
        entry.type, entry.linkname = kind, "/etc/passwd"
        extra.append(entry)
    members, error = await read_all(read_tar(Cursor(chunked(tar_of({"a.jpg": b"1"}, extra=extra)), "archive")))
    assert error is None
    assert [member.kind for member in members] == ["file", *kinds.values()]


async def test_a_sparse_file_is_passed_over_and_what_follows_is_read() -> None:
    """The form that GNU tar writes by itself: a map in the header, continued behind it, then less data than the size."""
    sparse = tarfile.TarInfo("holes.jpg")
    sparse.size, sparse.type = 512, tarfile.GNUTYPE_SPARSE
    header = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # the map goes on
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)  # the sum is taken with blanks in its own place
    data = bytes(header) + bytes(512) + b"d" * 512 + tar_of({"a.jpg": b"one"})
    members, error = await read_all(read_tar(Cursor(chunked(data), "archive")))
    assert error is None
    assert [(member.name, member.kind) for member in members] == [("holes.jpg", "a sparse file"), ("a.jpg", "file")]


async def test_wherever_a_tar_is_cut_the_files_before_are_whole_and_the_end_is_told() -> None:
    data = tar_of({"a.jpg": b"a" * 700, "b.jpg": b"b" * 30}, tarfile.USTAR_FORMAT)
    # a: header 0..512, data to 1536; b: header to 2048, data to 2560; then the end's first block to 3072
    for cut in (0, 100, 512, 1100, 1536, 1600, 2048, 2060, 2560, 2700):
        found, error = await files_in(data[:cut])
        assert isinstance(error, BadArchive), cut
        assert "cut short" in str(error)
        assert found.get("a.jpg", b"a" * 700) == b"a" * 700
        assert ("a.jpg" in found) == (cut >= 1212), cut  # when all its bytes are there
    assert (await files_in(data[:3072]))[1] is None


async def test_a_broken_header_in_the_middle_is_not_taken_for_the_end() -> None:
    data = bytearray(tar_of({"a.jpg": b"a", "b.jpg": b"b"}, tarfile.USTAR_FORMAT))
    data[1024 + 10] ^= 1  # in the second header, behind one block of header and one of data
    found, error = await files_in(bytes(data))
    assert list(found) == ["a.jpg"]
    assert "byte 1024: no header of a tar entry" in str(error)


async def test_a_second_archive_behind_the_first_is_not_passed_over_in_silence() -> None:
    found, error = await files_in(tar_of({"a.jpg": b"a"}) + tar_of({"b.jpg": b"b"}))
    assert list(found) == ["a.jpg"]
    assert "more follows the end" in str(error)


async def test_a_compressed_tar_says_what_to_send_instead() -> None:
    _, error = await files_in(gzip.compress(tar_of({"a.jpg": os.urandom(1000)})))
    assert "gunzip -c" in str(error)


async def test_an_extended_header_of_a_gigabyte_is_not_read() -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        header = tarfile.TarInfo("x")
        header.type, header.size = kind, 10**9
        _, error = await files_in(header.tobuf(tarfile.GNU_FORMAT))
        assert "an extended header of 1000000000 bytes" in str(error)


@pytest.mark.parametrize(
    "record", [b"5 size=-1\n", b"12 size=1e9\n", b"10 size=x\n", b"999 path=a\n", b"1 a=b\n", b"path"]
)
async def test_a_length_that_is_none_ends_the_archive(record: bytes) -> None:
    header, file = tarfile.TarInfo("x"), tarfile.TarInfo("a.jpg")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    data = header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + file.tobuf(tarfile.USTAR_FORMAT)
    found, error = await files_in(data + bytes(1024))
    assert found == {}
    assert isinstance(error, BadArchive)


async def test_a_negative_length_in_base_256_ends_the_archive() -> None:
    """GNU's form for numbers that octal digits cannot hold has a sign."""
    file = tarfile.TarInfo("a.jpg")
    header = bytearray(file.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 12  # -1
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    _, error = await files_in(bytes(header) + bytes(1024))
    assert isinstance(error, BadArchive)


def mutated() -> st.SearchStrategy[bytes]:
    """A tar with some bytes changed and a piece cut out."""
    base = tar_of(FILES, tarfile.GNU_FORMAT)

    def change(edits: list[tuple[int, int]], cut: tuple[int, int]) -> bytes:
        data = bytearray(base)
        for place, value in edits:
            data[place % len(data)] = value
        start = cut[0] % len(data)
        return bytes(data[:start] + data[start + cut[1] :])

    places = st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=6)
    return st.builds(change, places, st.tuples(st.integers(0, 10**4), st.integers(0, 600)))


@given(data=mutated())
@settings(max_examples=150, deadline=None)
async def test_a_damaged_tar_gets_a_sentence_and_never_a_fault(data: bytes) -> None:
    await files_in(data)  # whatever is no refusal goes through
