"""What every gallery store promises of persons: who they are, and how items become another's."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from app.core.records import Collection, Filter, Item, Merge, Person
from app.errors import BadField, NothingToUndo, UnknownCollection, UnknownItem, UnknownPerson
from app.ports import GalleryStore

LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=datetime(2026, 1, 2, tzinfo=UTC))
EIGHT, NINE, TEN = (datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (8, 9, 10))
EAST = np.array([[1, 0]], dtype=np.float32)
ALL = Filter()


def one(*persons: str) -> Filter:
    return Filter(persons=frozenset(persons))


def put(
    store: GalleryStore, item_id: str, person: str | None, camera: str | None = None, at: datetime | None = None
) -> None:
    store.put_collection(LOBBY)
    store.upsert("lobby", [Item(item_id, "sha-" + item_id, person, camera, at)], EAST)


@pytest.fixture
def people(store: GalleryStore) -> GalleryStore:
    """anna before two cameras, bert before one at no known time, and a crop of nobody."""
    put(store, "b1", "bert", "2")
    put(store, "a1", "anna", "2", TEN)
    put(store, "n1", None, "3", EIGHT)
    put(store, "a2", "anna", "10", NINE)
    put(store, "a3", "anna")
    return store


def whose(store: GalleryStore) -> dict[str, str | None]:
    """In the order added, as the database and as a search says."""
    (matches,) = store.search("lobby", EAST, 100, ALL)
    found = [match.item for match in matches]
    assert found == store.scan("lobby", ALL)
    return {item.id: item.person_id for item in found}


def names(store: GalleryStore, after: str | None = None, limit: int = 100) -> list[str]:
    return [person.person_id for person in store.persons("lobby", after, limit)]


def test_a_person_is_what_its_items_tell(people: GalleryStore) -> None:
    anna = Person("anna", 3, ("10", "2"), NINE, TEN)
    bert = Person("bert", 1, ("2",), None, None)
    assert people.persons("lobby") == [anna, bert]
    assert people.person("lobby", "anna") == anna


def test_persons_come_in_pages_by_id_behind_one_that_need_not_be_there(store: GalleryStore) -> None:
    for person in ("b", "ä", "B", "", "\U0001f6b6", "\uffff", "a"):
        put(store, "of " + person, person)
    everybody = ["", "B", "a", "b", "ä", "\uffff", "\U0001f6b6"]  # by code point, as Python sorts; UTF-16 would not
    assert names(store) == everybody
    assert names(store, limit=2) == ["", "B"]
    assert names(store, "B", 2) == ["a", "b"]
    assert names(store, "aa", 2) == ["b", "ä"]
    assert names(store, "\U0001f6b6") == []
    assert names(store, "") == everybody[1:]


def test_nobody_is_no_person(people: GalleryStore) -> None:
    people.delete("lobby", one("anna", "bert"))
    assert (people.count("lobby"), people.persons("lobby")) == (1, [])


@pytest.mark.parametrize("never", ["carl", "ANNA", "", "anna\0", "\ud800"], ids=ascii)
def test_a_person_who_is_not_there_is_unknown(people: GalleryStore, never: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: people.person("lobby", never),
        lambda: people.merge("lobby", never, "anna"),
        lambda: people.merge("lobby", "anna", never),
        lambda: people.merge("lobby", never, never),
    ]
    for call in calls:
        with pytest.raises(UnknownPerson, match="nobody called"):
            call()
    with pytest.raises(NothingToUndo):
        people.undo_merge("lobby")


def test_every_call_refuses_a_collection_that_is_not_there(store: GalleryStore) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.persons("x"),
        lambda: store.person("x", "anna"),
        lambda: store.move("x", ALL, "anna"),
        lambda: store.merge("x", "anna", "bert"),
        lambda: store.undo_merge("x"),
        lambda: store.correct("x", "a", {"camera_id": "4"}),
        lambda: store.rename("x", "anna", "dora"),
    ]
    for call in calls:
        with pytest.raises(UnknownCollection, match="'x'"):
            call()


def test_items_become_anothers_and_keep_their_place_vector_and_all_else(people: GalleryStore) -> None:
    before = people.scan("lobby", ALL)
    assert people.move("lobby", Filter(cameras=frozenset({"2", "3"})), "carl") == 3
    assert whose(people) == {"b1": "carl", "a1": "carl", "n1": "carl", "a2": "anna", "a3": "anna"}
    assert people.scan("lobby", ALL) == [
        replace(item, person_id="carl") if item.camera_id in ("2", "3") else item for item in before
    ]
    assert names(people) == ["anna", "carl"]
    assert [m.person_id for m in people.search_persons("lobby", EAST, 5, ALL)] == ["carl", "anna"]
    assert people.move("lobby", Filter(cameras=frozenset({"2", "3"})), "carl") == 0
    assert people.move("lobby", one("carl"), None) == 3
    assert people.move("lobby", one("nobody"), "carl") == 0
    assert names(people) == ["anna"]
    assert [m.person_id for m in people.search_persons("lobby", EAST, 5, ALL)] == ["anna"]


def test_a_name_that_cannot_be_kept_is_nobodys(people: GalleryStore) -> None:
    for never in ("a\0b", "\ud800"):
        with pytest.raises(BadField, match="person_id"):
            people.move("lobby", ALL, never)
    assert names(people) == ["anna", "bert"]


def test_merged_persons_are_one_until_it_is_undone_and_then_who_they_were(people: GalleryStore) -> None:
    before = whose(people)
    assert people.merge("lobby", "bert", "anna") == Merge("bert", "anna", 1)
    assert people.persons("lobby") == [Person("anna", 4, ("10", "2"), NINE, TEN)]
    assert people.undo_merge("lobby") == Merge("bert", "anna", 1)
    assert whose(people) == before
    with pytest.raises(NothingToUndo, match="'lobby' has no merge to undo"):
        people.undo_merge("lobby")


def test_only_the_last_merge_can_be_undone(people: GalleryStore) -> None:
    put(people, "c1", "carl")
    people.merge("lobby", "carl", "bert")
    people.merge("lobby", "bert", "anna")
    assert people.undo_merge("lobby") == Merge("bert", "anna", 2)
    assert whose(people) == {"b1": "bert", "a1": "anna", "n1": None, "a2": "anna", "a3": "anna", "c1": "bert"}
    with pytest.raises(NothingToUndo):
        people.undo_merge("lobby")


def test_an_undo_gives_back_what_is_still_where_the_merge_put_it(people: GalleryStore) -> None:
    people.merge("lobby", "anna", "bert")
    people.move("lobby", Filter(ids=frozenset({"a1"})), "carl")  # went on
    people.delete("lobby", Filter(ids=frozenset({"a2"})))
    put(people, "a2", "bert", "10", NINE)  # another item of that id
    put(people, "a3", "bert", "7")  # the same item, said anew
    put(people, "a4", "bert")
    assert people.undo_merge("lobby") == Merge("anna", "bert", 1)
    assert whose(people) == {"b1": "bert", "a1": "carl", "n1": None, "a3": "anna", "a2": "bert", "a4": "bert"}


def test_an_undo_may_find_nothing_left(people: GalleryStore) -> None:
    people.merge("lobby", "bert", "anna")
    people.delete("lobby", one("anna"))
    assert people.undo_merge("lobby") == Merge("bert", "anna", 0)


def test_a_person_merged_with_itself_is_no_merge(people: GalleryStore) -> None:
    people.merge("lobby", "bert", "anna")
    assert people.merge("lobby", "anna", "anna") == Merge("anna", "anna", 0)
    assert people.undo_merge("lobby") == Merge("bert", "anna", 1)


def test_merges_of_collections_do_not_see_each_other(people: GalleryStore) -> None:
    people.put_collection(replace(LOBBY, name="gate"))
    people.upsert("gate", [Item("a1", "sha", "anna"), Item("b1", "sha", "bert")], np.repeat(EAST, 2, axis=0))
    people.merge("gate", "anna", "bert")
    assert names(people) == ["anna", "bert"]
    with pytest.raises(NothingToUndo):
        people.undo_merge("lobby")
    people.delete_collection("gate")
    people.put_collection(replace(LOBBY, name="gate"))
    with pytest.raises(NothingToUndo):
        people.undo_merge("gate")


def test_an_item_is_corrected_in_what_is_said_of_it_alone(people: GalleryStore) -> None:
    units, norms = people.vectors("lobby", ["a1"])
    right = Item("a1", "sha-a1", "dora", "4", TEN, "x.jpg", {"coat": "red"})
    said = {"camera_id": "4", "captured_at": TEN, "source": "x.jpg", "attributes": {"coat": "red"}}
    people.correct("lobby", "a1", {"person_id": "dora"})
    assert people.correct("lobby", "a1", said) == right  # what another call said stays
    assert people.correct("lobby", "a1", said) == right
    assert people.get("lobby", ["a1"]) == [right]
    assert [entry.id for entry in people.scan("lobby", ALL)] == ["b1", "a1", "n1", "a2", "a3"]
    assert [part.tolist() for part in people.vectors("lobby", ["a1"])] == [units.tolist(), norms.tolist()]
    (matches,) = people.search("lobby", EAST, 5, Filter(attributes=frozenset({("coat", "red")})))
    assert [match.item for match in matches] == [right]
    assert names(people) == ["anna", "bert", "dora"]
    with pytest.raises(UnknownItem, match="'z'"):
        people.correct("lobby", "z", {"camera_id": "4"})
    with pytest.raises(BadField, match="camera_id"):
        people.correct("lobby", "a1", {"camera_id": "a\0"})
