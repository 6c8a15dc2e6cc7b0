"""What every store's audit promises: a line for each write that changed what is known of a person, and no name in it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.core.audit import AuditHead, AuditLine, first_break
from app.core.records import Collection, Filter, Item, Retention
from app.errors import NothingToUndo, UnknownCollection
from app.ports import Store
from tests.contracts.conftest import Clock

LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=datetime(2026, 1, 2, tzinfo=UTC))
ALL = Filter()


def put(store: Store, *items: Item, name: str = "lobby") -> None:
    store.put_collection(replace(LOBBY, name=name))
    store.upsert(name, items, np.tile(np.array([[1, 0]], dtype=np.float32), (len(items), 1)))


def ids(*ids: str) -> Filter:
    return Filter(ids=frozenset(ids))


def told(lines: Sequence[AuditLine]) -> list[tuple[str, dict[str, object]]]:
    return [(line.action, dict(line.details)) for line in lines]


def test_every_write_that_changes_something_is_a_line_and_no_other_call_is(store: Store, clock: Clock) -> None:
    put(store, Item("a", "s", "anna"), Item("b", "s"))
    put(store, Item("a", "s", "anna"))  # unchanged
    put(store, Item("a", "s", "bert"), Item("c", "s", "carl"))
    store.correct("lobby", "c", {"camera_id": "1"})
    store.correct("lobby", "c", {"camera_id": "1"})
    store.move("lobby", ids("b"), "anna")
    store.move("lobby", ids("b"), "anna")
    store.merge("lobby", "carl", "anna")
    store.merge("lobby", "anna", "anna")
    store.undo_merge("lobby")
    with pytest.raises(NothingToUndo):
        store.undo_merge("lobby")
    store.delete("lobby", ids("b"))
    store.delete("lobby", ids("b"))
    store.keep("lobby", Retention(1))
    store.expire("lobby", clock.now)
    store.expire("lobby", clock.now + timedelta(days=1))
    store.erase("lobby", ids("a"))  # that it finds nothing is worth knowing too
    store.search("lobby", np.array([[1, 0]], dtype=np.float32), 1, ALL)
    put(store, Item("d", "s"))
    store.delete_collection("lobby")
    with pytest.raises(UnknownCollection):
        store.delete_collection("lobby")
    assert told(store.audit.lines()) == [
        ("add", {"added": 2, "updated": 0}),
        ("add", {"added": 1, "updated": 1}),
        ("correct", {"items": 1}),
        ("move", {"items": 1}),
        ("merge", {"items": 1}),
        ("undo_merge", {"items": 1}),
        ("delete", {"items": 1}),
        ("expire", {"items": 2}),
        ("erase", {"items": 0, "persons": 0}),
        ("add", {"added": 1, "updated": 0}),
        ("delete_collection", {"items": 1}),
    ]


def test_lines_are_numbered_from_one_and_say_when_by_the_stores_clock(store: Store, clock: Clock) -> None:
    for day in range(3):
        put(store, Item(f"a{day}", "s"))
        clock.now += timedelta(days=1)
    lines = store.audit.lines()
    assert [line.seq for line in lines] == [1, 2, 3]
    assert [line.at.day for line in lines] == [1, 2, 3]
    assert {line.at.utcoffset() for line in lines} == {timedelta(0)}
    assert store.audit.lines(after=1) == lines[1:]
    assert store.audit.lines(after=1, limit=1) == lines[1:2]
    assert store.audit.lines(limit=None) == lines
    assert store.audit.lines(after=3) == []


def test_what_happened_to_an_item_or_a_person_can_be_asked_whether_it_is_there_or_not(store: Store) -> None:
    put(store, Item("a", "s", "anna"), Item("b", "s", "bert"))
    put(store, Item("a", "s", "carl"))
    store.move("lobby", ids("b"), "carl")
    store.erase("lobby", Filter(persons=frozenset({"carl"})))
    store.erase("lobby", Filter(persons=frozenset({"carl"})))

    def about(item: str | None = None, person: str | None = None, name: str = "lobby") -> list[int]:
        return [line.seq for line in store.audit.about(name, item, person)]

    assert about("a") == [1, 2, 4]
    assert about("b") == [1, 3, 4]
    assert about(person="anna") == [1, 2]
    assert about(person="bert") == [1, 3]
    assert about(person="carl") == [2, 3, 4, 5]
    assert about("a", "bert") == [1, 2, 3, 4]
    assert about("anna") == about(person="a") == about("a", name="gate") == about() == []
    assert told(store.audit.about("lobby", person_id="carl")[2:]) == [
        ("erase", {"items": 2, "persons": 1}),
        ("erase", {"items": 0, "persons": 1}),
    ]


def test_a_deleted_collection_is_a_line_about_everyone_in_it(store: Store) -> None:
    put(store, Item("a", "s", "anna"), Item("b", "s"))
    put(store, Item("a", "s", "anna"), name="gate")
    store.delete_collection("lobby")
    assert [line.action for line in store.audit.about("lobby", "b")] == ["add", "delete_collection"]
    assert [line.action for line in store.audit.about("lobby", person_id="anna")] == ["add", "delete_collection"]
    assert [line.action for line in store.audit.about("gate", "a")] == ["add"]


def test_who_was_unchanged_in_a_write_is_not_in_its_line(store: Store) -> None:
    put(store, Item("a", "s", "anna"))
    put(store, Item("a", "s", "anna"), Item("b", "s", "bert"))
    assert [line.seq for line in store.audit.about("lobby", "a")] == [1]
    assert [line.seq for line in store.audit.about("lobby", person_id="anna")] == [1]


def test_a_write_that_is_refused_leaves_no_line(store: Store) -> None:
    put(store, Item("a", "s"))
    with pytest.raises(ValueError, match="vector"):
        store.upsert("lobby", [Item("b", "s")], np.zeros((1, 2), dtype=np.float32))
    assert len(store.audit.lines()) == 1


def test_the_chain_holds_and_ends_where_the_last_erasure_says(store: Store) -> None:
    assert store.audit.verify() == AuditHead(0, bytes(32))
    put(store, Item("a", "s", "anna"))
    erasure = store.erase("lobby", ALL)
    assert store.audit.verify() == erasure.audit
    lines = store.audit.lines()
    assert first_break(lines) == (erasure.audit, None)
    assert (lines[-1].seq, lines[-1].hash) == (2, erasure.audit.hash)
    assert first_break([lines[0], replace(lines[1], details={"items": 2})])[1] == 2
