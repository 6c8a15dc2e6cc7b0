"""What an archive holds, entry by entry, and which of it is taken as a crop. Nothing is ever written to a disk.

An entry refuses itself by its name, its kind or its size before a byte of it is held.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from app.api.streams.said import Said, read_items
from app.core.jobs import storable
from app.core.records import IMAGE_SUFFIXES, is_storable
from app.errors import BadArchive, BadInput, ReidError, TooLarge
from app.service.embed import Upload
from app.service.incoming import New, NewCrop, Unusable

FILE, DIRECTORY = "file", "directory"
SAID = "items.ndjson"
SAID_BYTES = 8 * 2**20
_NAME_LENGTH = 1024
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of an archive. kind: FILE, DIRECTORY, or in words what else it is. size: None where nothing tells it before.

    read: its bytes, at most so many (raises TooLarge, or BadInput where they are not what the archive says); to be called
    before the next entry is asked for, or not at all.
    """

    name: str
    kind: str
    size: int | None
    read: Callable[[int], Awaitable[bytes]]


async def crops_of(members: AsyncIterator[Member], max_bytes: int) -> AsyncIterator[New]:
    """The crops among the entries, each with what an `items.ndjson` before it says of it."""
    said = Said(SAID)
    seen: set[int] = set()  # hashes of names, 65 bytes each however long the names
    async for member in members:
        name = storable(member.name.removeprefix("./"))[:_NAME_LENGTH]
        if member.kind == DIRECTORY or _is_of_a_mac(name):
            continue
        described = said.of(name)
        most = SAID_BYTES if name == SAID else max_bytes
        try:
            _check(member, name, most)
            if name != SAID:
                _check_new(name, seen)
            data = await member.read(most)
        except BadArchive:
            raise
        except (BadInput, TooLarge) as error:
            yield Unusable(name, error)
            continue
        if name == SAID:
            said.finish()
            said = await asyncio.to_thread(read_items, data)
        else:
            yield NewCrop(Upload(name, data), described)
    said.finish()


def too_large(name: str, size: int, most: int) -> ReidError:
    """The refusal of an entry that has so many bytes, or more."""
    return TooLarge(f"{name}: {size} bytes or more; a crop may have {most}")


def _check(member: Member, name: str, most: int) -> None:
    """Raises BadInput, TooLarge for what is not read at all."""
    if not is_storable(member.name) or len(member.name) > _NAME_LENGTH:
        raise BadInput(f"{name}: a name that cannot be stored")
    if member.kind != FILE:
        raise BadInput(f"{name}: {member.kind}; only plain files are taken")
    if name.startswith(("/", "\\")) or _DRIVE.match(name) or ".." in re.split(r"[/\\]", name):
        raise BadInput(f"{name}: leads out of the archive")
    if name != SAID and (_base(name).startswith(".") or not name.lower().endswith(IMAGE_SUFFIXES)):
        raise BadInput(f"{name}: no picture by its name; taken are {', '.join(IMAGE_SUFFIXES)}")
    if member.size is not None and member.size > most:
        raise TooLarge(f"{name}: {member.size} bytes; at most {most} are taken")


def _check_new(name: str, seen: set[int]) -> None:
    """Raises BadInput for a name that came before."""
    if hash(name) in seen:
        raise BadInput(f"{name}: comes twice in the archive")
    seen.add(hash(name))


def _is_of_a_mac(name: str) -> bool:
    """A Mac puts a `._x.jpg` beside each `x.jpg`, which is no picture."""
    return _base(name).startswith("._") or _base(name) == ".DS_Store"


def _base(name: str) -> str:
    return name.rpartition("/")[2]
