"""A gallery with something in it, for tests of its upkeep."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.plan import IndexPlan
from app.core.preprocess import HEIGHT, WIDTH
from app.core.records import Collection, Filter, Item
from app.ports import Floats

DIM = 64
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOBBY = Collection("lobby", "print-1", DIM, keep_crops=True, created_at=NOON)
ALL = Filter()
SOON = IndexPlan(flat=40, tail=10)  # codes from 41 items on


def persons(*names: str) -> Filter:
    return Filter(persons=frozenset(names))


def ids(*names: str) -> Filter:
    return Filter(ids=frozenset(names))


def items(start: int, stop: int) -> list[Item]:
    """Each fifth is of one person."""
    return [Item(f"item-{n:04}", f"sha-{n:04}", f"person-{n % 5}", f"{n % 3}", NOON) for n in range(start, stop)]


def vectors(start: int, stop: int) -> Floats:
    return np.concatenate([np.random.default_rng(n).standard_normal((1, DIM), np.float32) for n in range(start, stop)])


def fill(gallery: LocalGallery, start: int, stop: int) -> None:
    crops = [np.full((HEIGHT, WIDTH, 3), n % 256, dtype=np.uint8) for n in range(start, stop)]
    gallery.put_collection(LOBBY)
    gallery.upsert("lobby", items(start, stop), vectors(start, stop), crops)


def opened(directory: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> LocalGallery:
    """With its snapshots in the folder `snapshots` beside it."""
    return LocalGallery(directory, plan=SOON, clock=clock, snapshots=directory.parent / "snapshots")


def untold(done: int, total: int) -> None:
    """Nobody is told how far something is."""


def never() -> bool:
    """Nothing is given up."""
    return False
