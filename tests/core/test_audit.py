"""The chain of the audit breaks at the first line that is not what was written, and digests tell nobody's name."""

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.core.audit import GENESIS, AuditHead, AuditLine, chained, digest, first_break

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
KEY = b"k" * 32


@pytest.fixture
def lines() -> list[AuditLine]:
    made: list[AuditLine] = []
    for seq in range(1, 5):
        before = made[-1].hash if made else GENESIS
        details: dict[str, str | int] = {"items": seq, "of": "x"}
        made.append(chained(before, seq, NOON, "delete", "lobby", details, [bytes(16)], [b"p" * 16]))
    return made


def test_a_digest_is_the_first_half_of_a_keyed_hash() -> None:
    expected = hmac.new(KEY, b'["item", "lobby", "\\u00e4"]', hashlib.sha256).digest()[:16]
    assert digest(KEY, "item", "lobby", "ä") == expected


def test_no_two_things_share_a_digest() -> None:
    things = [("item", "a", "b"), ("person", "a", "b"), ("item", "b", "a"), ("item", "a", 'b"'), ("item", 'a", "b', "")]
    digests = {digest(KEY, *thing) for thing in things}  # type: ignore[arg-type]
    assert len(digests) == len(things)
    assert digest(b"other", "item", "a", "b") not in digests


def test_a_whole_chain_holds_from_its_beginning_and_from_any_line_on(lines: list[AuditLine]) -> None:
    head = AuditHead(4, lines[-1].hash)
    assert first_break(lines) == (head, None)
    assert first_break(lines[2:], lines[1].hash, 2) == (head, None)
    assert first_break([]) == (AuditHead(0, GENESIS), None)


CHANGES = {
    "seq": 7,
    "at": NOON + timedelta(microseconds=1),
    "action": "erase",
    "collection": "gate",
    "details": {"items": 3, "of": "y"},
    "items": (b"i" * 16,),
    "persons": (),
    "hash": bytes(32),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_line_that_was_changed_in_any_field_is_found(lines: list[AuditLine], field: str) -> None:
    changed = replace(lines[2], **{field: CHANGES[field]})  # type: ignore[arg-type]
    head, broken = first_break([*lines[:2], changed, lines[3]])
    assert (head, broken) == (AuditHead(2, lines[1].hash), changed.seq)


def test_the_changes_above_are_of_every_field() -> None:
    assert set(CHANGES) == set(AuditLine.__slots__)


def test_digests_that_were_moved_from_items_to_persons_are_found(lines: list[AuditLine]) -> None:
    swapped = replace(lines[0], items=(), persons=(bytes(16), b"p" * 16))
    assert first_break([swapped]) == (AuditHead(0, GENESIS), 1)


def test_a_line_that_is_missing_or_in_another_place_is_found(lines: list[AuditLine]) -> None:
    assert first_break([lines[0], *lines[2:]])[1] == 3
    assert first_break(lines[1:])[1] == 2
    assert first_break([lines[1], lines[0]])[1] == 2


def test_a_line_that_was_written_anew_breaks_the_next(lines: list[AuditLine]) -> None:
    forged = chained(lines[0].hash, 2, NOON, "delete", "lobby", {"items": 0}, [], [])
    assert first_break([lines[0], forged, *lines[2:]]) == (AuditHead(2, forged.hash), 3)
