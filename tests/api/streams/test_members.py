"""Which entries of an archive are taken: by name, kind and size, before a byte is read; and what `items.ndjson` says of them."""

import json
from collections.abc import AsyncIterator

import pytest

from app.api.streams.members import DIRECTORY, FILE, Member, crops_of
from app.errors import BadField
from app.service.incoming import NewCrop, Unusable
from tests.streams import read_all

pytestmark = pytest.mark.anyio


async def archive(*entries: tuple[str, str, bytes] | tuple[str, str, int]) -> AsyncIterator[Member]:
    """Entries of a name, a kind and either bytes or a size, with which they must not be read."""
    for name, kind, content in entries:

        async def read(_most: int, content: bytes | int = content) -> bytes:
            assert isinstance(content, bytes), "what is refused was read all the same"
            return content

        yield Member(name, kind, content if isinstance(content, int) else len(content), read)


def said(*rows: dict[str, object]) -> tuple[str, str, bytes]:
    return "items.ndjson", FILE, "\n".join(map(json.dumps, rows)).encode()


REFUSED = {
    "/etc/a.jpg": "leads out of the archive",
    "../a.jpg": "leads out of the archive",
    "x/../../a.jpg": "leads out of the archive",
    "x\\..\\a.jpg": "leads out of the archive",
    "\\\\host\\a.jpg": "leads out of the archive",
    "C:\\a.jpg": "leads out of the archive",
    "a.txt": "no picture by its name",
    "a.zip": "no picture by its name",
    "a": "no picture by its name",
    "x/.hidden.jpg": "no picture by its name",
    "a\0.jpg": "a name that cannot be stored",
    "a\udcff.jpg": "a name that cannot be stored",
    "n" * 2000 + ".jpg": "a name that cannot be stored",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_name_that_is_refused_is_refused_unread_and_the_next_is_taken(name: str) -> None:
    (bad, good), error = await read_all(crops_of(archive((name, FILE, 5), ("x/good.JPG", FILE, b"good")), 100))
    assert error is None
    assert isinstance(bad, Unusable)
    assert REFUSED[name] in str(bad.error)
    bad.name.encode()  # it goes out in a line
    assert isinstance(good, NewCrop)
    assert (good.name, good.upload.data) == ("x/good.JPG", b"good")


async def test_kinds_and_sizes_are_refused_unread() -> None:
    entries = archive(("a.jpg", "a symbolic link", 0), ("b.jpg", FILE, 101), ("c.jpg", FILE, b"c" * 100))
    (link, large, fits), _ = await read_all(crops_of(entries, 100))
    assert isinstance(link, Unusable)
    assert isinstance(large, Unusable)
    assert "a symbolic link; only plain files" in str(link.error)
    assert (large.error.code, str(large.error)) == ("too_large", "b.jpg: 101 bytes; at most 100 are taken")
    assert isinstance(fits, NewCrop)


async def test_folders_and_what_a_mac_puts_beside_files_are_passed_over() -> None:
    entries = archive(("x/", DIRECTORY, 0), ("__MACOSX/x/._a.jpg", FILE, 5), ("x/.DS_Store", FILE, 5))
    assert await read_all(crops_of(entries, 100)) == ([], None)


async def test_a_name_that_comes_twice_is_refused_the_second_time() -> None:
    entries = archive(("a.jpg", FILE, b"1"), ("./a.jpg", FILE, 1), ("x/a.jpg", FILE, b"3"))
    found, _ = await read_all(crops_of(entries, 100))
    assert [type(new) for new in found] == [NewCrop, Unusable, NewCrop]
    assert "comes twice" in str(getattr(found[1], "error", None))


async def test_a_list_describes_the_entries_behind_it_until_the_next_list() -> None:
    entries = archive(
        ("early.jpg", FILE, b"0"),
        said({"name": "a.jpg", "person_id": "anna"}, {"name": "./x/b.jpg", "id": "gate-1"}),
        ("x/b.jpg", FILE, b"1"),
        ("a.jpg", FILE, b"2"),
        said({"name": "c.jpg", "person_id": "carl"}),
        ("c.jpg", FILE, b"3"),
    )
    found, error = await read_all(crops_of(entries, 100))
    assert error is None
    about = {new.name: (new.description.id, new.description.person_id) for new in found if isinstance(new, NewCrop)}
    assert about == {
        "early.jpg": (None, None),
        "x/b.jpg": ("gate-1", None),
        "a.jpg": (None, "anna"),
        "c.jpg": (None, "carl"),
    }


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"{", "line 2: not JSON"),
        (b'{"id": "x"}', "line 2: has no `name`"),
        (b'{"name": "a.jpg", "persn_id": "x"}', "line 2: persn_id: "),
        (b'{"name": "a.jpg", "captured_at": "noon"}', "line 2: captured_at: "),
    ],
)
async def test_a_list_that_cannot_be_read_ends_the_archive_before_its_crops_go_in_unlabelled(
    line: bytes, sentence: str
) -> None:
    entries = archive(("items.ndjson", FILE, b"\n" + line), ("a.jpg", FILE, b"1"))
    found, error = await read_all(crops_of(entries, 100))
    assert found == []
    assert isinstance(error, BadField)
    assert str(error).startswith(f"items.ndjson: {sentence}")


async def test_a_list_may_be_larger_than_a_crop() -> None:
    found, error = await read_all(
        crops_of(archive(said({"name": "a.jpg", "id": "i" * 200}), ("a.jpg", FILE, b"1")), 100)
    )
    assert error is None
    assert len(found) == 1


async def test_an_entry_that_is_described_and_does_not_come_is_missed() -> None:
    entries = archive(said({"name": "a.jpg"}, {"name": "b.jpg"}), ("a.jpg", FILE, b"1"))
    found, error = await read_all(crops_of(entries, 100))
    assert len(found) == 1
    assert "no image is named 'b.jpg'" in str(error)
