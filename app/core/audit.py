"""The audit's arithmetic: what a line says, how ids become digests, and how each line's hash holds the one before it.

A digest is keyed (HMAC-SHA256, RFC 2104) and cut to 16 bytes: whoever has the key and knows an id can find its lines, and
nobody can read an id out of them.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

DIGEST_BYTES = 16
GENESIS = bytes(32)  # stands before the first line
Action = Literal[
    "add", "correct", "delete", "erase", "expire", "move", "merge", "undo_merge", "delete_collection", "restore",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One write. details: names of settings and counts, never a person's; items, persons: digests of those concerned."""

    seq: int
    at: datetime
    action: Action
    collection: str
    details: Mapping[str, str | int]
    items: tuple[bytes, ...]
    persons: tuple[bytes, ...]
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The last line: who has its number and hash can tell later whether anything before it was changed. 0: no line yet."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erase did: how many items, and the line that tells of it.

    snapshots: ids of those that still hold some of it; unreachable: of those that could not be asked. recorded: whether it
    stands beside every snapshot, so that a restore applies it; None where there is no snapshot.
    """

    items: int
    erased_at: datetime
    audit: AuditHead
    snapshots: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    recorded: bool | None = None


def digest(key: bytes, kind: Literal["item", "person"], collection: str, name: str) -> bytes:
    """Of an item's or a person's id in a collection."""
    text = json.dumps([kind, collection, name], ensure_ascii=True)  # the same text for no two triples
    return hmac.digest(key, text.encode("ascii"), "sha256")[:DIGEST_BYTES]


def chained(
    before: bytes,
    seq: int,
    at: datetime,
    action: Action,
    collection: str,
    details: Mapping[str, str | int],
    items: Iterable[bytes],
    persons: Iterable[bytes],
) -> AuditLine:
    """The line behind the one whose hash is `before`. at: in UTC."""
    items, persons = tuple(items), tuple(persons)
    told = json.dumps(
        [seq, at.isoformat(timespec="microseconds"), action, collection, dict(details)],
        sort_keys=True,
        ensure_ascii=True,
    )
    parts = [before, told.encode("ascii"), b"".join(items), b"".join(persons)]
    whole = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts))
    return AuditLine(seq, at, action, collection, dict(details), items, persons, whole.digest())


def first_break(lines: Iterable[AuditLine], before: bytes = GENESIS, seq: int = 0) -> tuple[AuditHead, int | None]:
    """Walk lines behind number `seq`: the last one that fits, and the number of the first that does not, or None."""
    for line in lines:
        expected = chained(
            before, seq + 1, line.at, line.action, line.collection, line.details, line.items, line.persons
        )
        if line.seq != seq + 1 or line.hash != expected.hash:
            return AuditHead(seq, before), line.seq
        before, seq = line.hash, line.seq
    return AuditHead(seq, before), None
