"""What every store promises of an erase beyond a delete: whatever else it keeps that names who is gone, forgets it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from app.core.calibrated import Calibrated
from app.core.erasing import ERASED
from app.core.jobs import Failure, Job, Progress
from app.core.records import Collection, Filter, Item
from app.errors import NothingToUndo, UnknownCollection
from app.ports import Store
from tests.contracts.conftest import Clock

LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=datetime(2026, 1, 2, tzinfo=UTC))
BEFORE = datetime(2026, 5, 1, 11, tzinfo=UTC)  # an hour before the store's clock
JOB = Job("j", "evaluate", {}, BEFORE)
ALL = Filter()


def ids(*ids: str) -> Filter:
    return Filter(ids=frozenset(ids))


def persons(*persons: str) -> Filter:
    return Filter(persons=frozenset(persons))


@pytest.fixture
def people(store: Store) -> Store:
    """anna twice, once from a file; bert once."""
    store.put_collection(LOBBY)
    items = [
        Item("a1", "e3b0", "anna", source="gate/0007_c1.jpg"),
        Item('a"2\n\\', "77aa", "anna", "2"),
        Item("b1", "0c1d", "bert", "2"),
    ]
    store.upsert("lobby", items, np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32))
    return store


def found(store: Store) -> list[str]:
    (matches,) = store.search("lobby", np.array([[1, 0]], dtype=np.float32), 10, ALL)
    return [match.item.id for match in matches]


def test_what_is_erased_is_found_no_more_and_the_receipt_says_how_much_it_was(people: Store, clock: Clock) -> None:
    erasure = people.erase("lobby", persons("anna"))
    assert (erasure.items, erasure.erased_at) == (2, clock.now)
    assert erasure.audit.seq == people.audit.lines()[-1].seq == 2
    assert (found(people), people.count("lobby"), people.get("lobby", ["a1"])) == (["b1"], 1, [None])
    assert people.erase("lobby", persons("anna")).items == 0
    assert people.erase("lobby", ALL).items == 1
    assert people.scan("lobby", ALL) == []
    with pytest.raises(UnknownCollection):
        people.erase("gate", ALL)


def test_items_of_the_same_name_elsewhere_stay(people: Store) -> None:
    people.put_collection(replace(LOBBY, name="gate"))
    people.upsert("gate", [Item("a1", "e3b0", "anna")], np.array([[1, 0]], dtype=np.float32))
    people.erase("lobby", persons("anna"))
    assert people.person("gate", "anna").items == 1


NAMING: dict[str, dict[str, Any]] = {
    "an id in a parameter": {"params": {"items": ["a1"]}},
    "an id that JSON writes in another way": {"result": {"worst": [{"id": 'a"2\n\\'}]}},
    "a key of an object": {"result": {"by_person": {"anna": 0.5}}},
    "a name in a sentence": {"note": "looking for anna."},
    "a name in an error": {"error": Failure("unknown_person", "collection 'lobby' has nobody called 'anna'")},
    "a source": {"params": {"folder": "gate/0007_c1.jpg"}},
    "the file of a source": {"result": {"refused": [{"name": "elsewhere/0007_c1.jpg", "why": "no image"}]}},
    "a hash": {"result": {"sha256": "e3b0"}},
}


def job(**fields: Any) -> Job:
    note = fields.pop("note", "")
    made = replace(JOB, params={"collection": "lobby"}, progress=Progress(3, 9, note), started_at=BEFORE)
    return replace(made, **fields)


@pytest.mark.parametrize("fields", NAMING.values(), ids=NAMING)
def test_a_job_that_names_what_is_erased_is_emptied(people: Store, fields: dict[str, Any]) -> None:
    people.jobs.put_job(job(state="done", ended_at=BEFORE, **fields))
    people.erase("lobby", persons("anna"))
    left = people.jobs.job("j")
    error = None if fields.get("error") is None else Failure("unknown_person", ERASED)
    assert left == job(state="done", ended_at=BEFORE, params={}, result=None, note=ERASED, error=error)


def test_a_job_that_waits_or_runs_is_cancelled_and_stays_so_whatever_comes_of_it(people: Store, clock: Clock) -> None:
    waits, runs = job(params={"items": ["a1"]}, started_at=None), job(id="r", state="running", note="anna")
    for entry in (waits, runs):
        people.jobs.put_job(entry)
    people.erase("lobby", persons("anna"))
    emptied = [people.jobs.job(entry.id) for entry in (waits, runs)]
    assert [(entry.state, entry.ended_at, entry.params) for entry in emptied] == [("cancelled", clock.now, {})] * 2
    people.jobs.put_job(replace(runs, progress=Progress(4, 9, "anna")))
    people.jobs.put_job(replace(runs, state="done", ended_at=clock.now, result={"best": "anna"}))
    assert [people.jobs.job(entry.id) for entry in (waits, runs)] == emptied


def test_what_a_job_at_work_had_read_before_an_erase_is_not_kept_after_it(people: Store, clock: Clock) -> None:
    other, later = job(id="o", state="running"), replace(JOB, id="l", created_at=clock.now + timedelta(minutes=1))
    for entry in (job(state="running"), other):
        people.jobs.put_job(entry)
    people.erase("lobby", persons("anna"))
    end: dict[str, Any] = {"state": "done", "ended_at": clock.now + timedelta(minutes=2)}
    people.jobs.put_job(replace(job(state="running"), result={"worst": "a1"}, **end))
    people.jobs.put_job(replace(other, result={"worst": "b1"}, **end))
    people.jobs.put_job(replace(later, result={"worst": "a1"}, **end))  # somebody of that id who came later
    assert (people.jobs.job("j").result, people.jobs.job("j").progress.note) == (None, ERASED)
    assert people.jobs.job("o").result == {"worst": "b1"}
    assert people.jobs.job("l").result == {"worst": "a1"}


@pytest.mark.parametrize(
    "fields",
    [
        {"params": {"items": ["b1"]}},
        {"note": "hannah, annas, a10 and a1x"},  # other names, with these in them
        {"result": {"worst": [{"id": "xa1", "person": "bert"}], "a 1": 1}},
        {"params": {"n": 2, "none": None}},
    ],
)
def test_a_job_that_names_others_stays_as_it_is(people: Store, fields: dict[str, Any]) -> None:
    kept = job(state="done", ended_at=BEFORE, **fields)
    people.jobs.put_job(kept)
    people.erase("lobby", persons("anna"))
    assert people.jobs.job("j") == kept


def test_a_person_of_whom_something_is_left_keeps_its_name_in_jobs(people: Store) -> None:
    people.jobs.put_job(job(result={"person": "anna"}))
    people.jobs.put_job(job(id="i", result={"item": "a1"}))
    people.erase("lobby", Filter(persons=frozenset({"anna"}), ids=frozenset({"a1"})))
    assert people.jobs.job("j").result == {"person": "anna"}
    assert people.jobs.job("i").result is None
    people.erase("lobby", ids('a"2\n\\'))
    assert people.jobs.job("j").result is None


def test_who_was_deleted_before_is_forgotten_when_an_erase_names_it(people: Store) -> None:
    people.delete("lobby", persons("anna"))
    people.jobs.put_job(job(result={"person": "anna"}))
    people.jobs.put_job(job(id="i", result={"item": "a1"}))
    assert people.erase("lobby", persons("anna")).items == 0
    assert (people.jobs.job("j").result, people.jobs.job("i").result) == (None, {"item": "a1"})
    people.erase("lobby", ids("a1", "b1"))
    assert people.jobs.job("i").result is None


def test_a_calibration_that_names_what_is_erased_goes(people: Store) -> None:
    people.put_collection(replace(LOBBY, name="gate"))
    made = Calibrated("item", "print-1", 3, BEFORE, '{"hardest": ["a1", "b1"]}')
    for name in ("lobby", "gate"):
        people.calibrations.put_calibration(name, made)
    others = replace(made, by="person", data='{"threshold": 0.5}')
    people.calibrations.put_calibration("lobby", others)
    people.erase("lobby", persons("anna"))
    assert people.calibrations.calibration("lobby", "item") is None
    assert people.calibrations.calibration("lobby", "person") == others
    assert people.calibrations.calibration("gate", "item") == made  # another a1


def test_a_merge_of_a_person_who_is_erased_is_forgotten_with_the_name_that_it_remembered(people: Store) -> None:
    people.jobs.put_job(job(result={"person": "anna"}))
    people.merge("lobby", "anna", "bert")
    people.erase("lobby", ids("a1"))  # was anna's
    with pytest.raises(NothingToUndo):
        people.undo_merge("lobby")
    assert people.jobs.job("j").result is None


def test_a_merge_of_others_can_be_undone_after_an_erase(people: Store) -> None:
    people.upsert("lobby", [Item("c", "s", "carl"), Item("d", "s", "dora")], np.eye(2, dtype=np.float32))
    people.merge("lobby", "carl", "bert")
    people.erase("lobby", ids("a1"))
    people.erase("lobby", ids("b1"))  # of a person of the merge, of whom something is left
    assert people.undo_merge("lobby").items == 1
    people.merge("lobby", "dora", "carl")
    people.delete("lobby", persons("carl"))
    people.erase("lobby", persons("carl"))
    with pytest.raises(NothingToUndo):
        people.undo_merge("lobby")


def test_a_number_is_given_to_one_item_only_also_across_an_erase(people: Store) -> None:
    people.erase("lobby", ALL)
    people.upsert("lobby", [Item("z", "s"), Item("a", "s")], np.array([[1, 0], [1, 0]], dtype=np.float32))
    assert found(people) == ["z", "a"]
