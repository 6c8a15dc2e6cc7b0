"""What the fault tests put into a gallery. All of an item follows from its number and version: who checks knows what to find."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from app.adapters.checks import units_and_norms
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.local_gallery.rows import deflate
from app.core.preprocess import HEIGHT, WIDTH, Crop
from app.core.records import Collection, Item
from app.ports import Floats

DIM = 64
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOBBY = Collection("lobby", "print-1", DIM, keep_crops=True, created_at=NOON)
YARD = Collection("yard", "print-1", DIM, keep_crops=False, created_at=NOON)
PLAN = IndexPlan(flat=40, tail=16, shortlist=20, narrow=5)  # so small that codes, joins and index files are at play
FIRST = {LOBBY.name: 0, YARD.name: 1_000_000}  # numbers of items: no id is in both collections, and no person
_NOISY = 8  # rows of a crop: three kilobytes that cannot be made shorter
_WINDOW = 24  # bytes of a needle: of a vector six numbers, which no other has


@dataclass(frozen=True, slots=True)
class State:
    """How an item of some number stands."""

    version: int
    person: str


States = Mapping[int, State]
Change = Mapping[int, State | None]  # None: it goes


def after(states: States, change: Change) -> dict[int, State]:
    """Items once a change is made."""
    changed = {**states, **change}
    return {number: state for number, state in changed.items() if state is not None}


def item_id(number: int) -> str:
    """Of fixed length, so that none is part of another."""
    return f"item-{number:07}"


def person(number: int) -> str:
    """Whose an item is when it comes in: four in a row are one person's."""
    return f"person-{number // 4:07}"


def item(number: int, state: State) -> Item:
    """As it is stored."""
    sha256 = hashlib.sha256(f"{number} {state.version}".encode()).hexdigest()
    source = f"{sha256[:20]}.jpg"
    return Item(item_id(number), sha256, state.person, f"camera-{number % 3}", NOON, source, {"v": str(state.version)})


def number_of(stored: Item) -> int:
    """The item's number."""
    return int(stored.id.removeprefix("item-"))


def state_of(stored: Item) -> State:
    """How it stands; whether it is whole is another question."""
    return State(int(stored.attributes["v"]), str(stored.person_id))


def raw_vector(number: int, version: int) -> Floats:
    """Of random direction: two have a cosine of about 0."""
    return np.random.default_rng((number, version)).standard_normal(DIM).astype(np.float32)


def raw_vectors(states: States) -> Floats:
    """In the order of the numbers given, float32 [n, dim]."""
    rows = [raw_vector(number, state.version) for number, state in states.items()]
    return np.array(rows, dtype=np.float32).reshape(len(rows), DIM)


def unit_vectors(states: States) -> Floats:
    """As they are stored."""
    return units_and_norms(raw_vectors(states), len(states), DIM)[0]


def crop(number: int, version: int) -> Crop:
    """Black but for some rows of noise, whose bytes no other crop has when it is deflated."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:_NOISY] = np.random.default_rng((number, version, 1)).integers(0, 256, (_NOISY, WIDTH, 3), dtype=np.uint8)
    return pixels


def needles(number: int, state: State, with_crop: bool) -> Iterator[bytes]:
    """Bytes that are in files for as long as anything of the item is: of all its versions so far."""
    yield item_id(number).encode()
    for version in range(state.version + 1):
        told = item(number, State(version, state.person))
        yield told.sha256.encode()[:20]  # the source's name too
        yield from _windows(unit_vectors({number: State(version, "")}).astype("<f4").tobytes(), 4)
        if with_crop:
            yield from _windows(deflate(crop(number, version))[: _NOISY * WIDTH * 3], 8)


def _windows(content: bytes, count: int) -> Iterator[bytes]:
    """Some pieces of it, evenly spread: pages of a database cut a long row at any place."""
    step = (len(content) - _WINDOW) // (count - 1)
    for start in range(0, count * step, step):
        yield content[start : start + _WINDOW]
