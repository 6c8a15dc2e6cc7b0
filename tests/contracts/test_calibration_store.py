"""What every store promises of calibrations; which stores there are stands in conftest.py."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.core.calibrated import Calibrated
from app.core.records import Collection
from app.errors import BadField, UnknownCollection
from app.ports import Store

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=NOON)
BY_ITEM = Calibrated("item", "print-1", 852, NOON, '{"pairs": 1}')
BY_PERSON = Calibrated("person", "print-1", 852, NOON, '{"pairs": 2}')


@pytest.fixture(autouse=True)
def lobby(store: Store) -> None:
    store.put_collection(LOBBY)


def test_each_kind_of_search_has_its_own(store: Store) -> None:
    assert store.calibrations.calibration("lobby", "item") is None
    store.calibrations.put_calibration("lobby", BY_ITEM)
    assert store.calibrations.calibration("lobby", "person") is None
    store.calibrations.put_calibration("lobby", BY_PERSON)
    assert store.calibrations.calibration("lobby", "item") == BY_ITEM
    assert store.calibrations.calibration("lobby", "person") == BY_PERSON


def test_a_new_one_takes_the_place_of_the_last(store: Store) -> None:
    store.calibrations.put_calibration("lobby", BY_ITEM)
    newer = Calibrated("item", "print-2", 900, NOON + timedelta(days=1), "{}")
    store.calibrations.put_calibration("lobby", newer)
    assert store.calibrations.calibration("lobby", "item") == newer


def test_a_calibration_goes_with_its_collection_and_no_other_ones(store: Store) -> None:
    store.put_collection(replace(LOBBY, name="gate"))
    store.calibrations.put_calibration("lobby", BY_ITEM)
    store.calibrations.put_calibration("gate", BY_PERSON)
    store.delete_collection("lobby")
    with pytest.raises(UnknownCollection):
        store.calibrations.calibration("lobby", "item")
    store.put_collection(LOBBY)
    assert store.calibrations.calibration("lobby", "item") is None
    assert store.calibrations.calibration("gate", "person") == BY_PERSON


@pytest.mark.parametrize("name", ["x", "lobby\0", "\ud800"])
def test_a_collection_that_is_not_there_has_none_and_takes_none(store: Store, name: str) -> None:
    with pytest.raises(UnknownCollection):
        store.calibrations.calibration(name, "item")
    with pytest.raises(UnknownCollection):
        store.calibrations.put_calibration(name, BY_ITEM)


def test_instants_are_told_in_utc(store: Store) -> None:
    store.calibrations.put_calibration(
        "lobby", replace(BY_ITEM, created_at=NOON.astimezone(timezone(timedelta(hours=3))))
    )
    kept = store.calibrations.calibration("lobby", "item")
    assert kept
    assert (kept.created_at, kept.created_at.utcoffset()) == (NOON, timedelta(0))
    with pytest.raises(ValueError, match="zone"):
        store.calibrations.put_calibration("lobby", replace(BY_ITEM, created_at=NOON.replace(tzinfo=None)))


@pytest.mark.parametrize("data", ["\0", "\udcff"])
def test_text_that_cannot_be_kept_is_refused_and_changes_nothing(store: Store, data: str) -> None:
    store.calibrations.put_calibration("lobby", BY_ITEM)
    with pytest.raises(BadField, match="data"):
        store.calibrations.put_calibration("lobby", replace(BY_ITEM, data=data))
    assert store.calibrations.calibration("lobby", "item") == BY_ITEM
