"""What has to hold after a kill, however it fell: all that was acknowledged, none of what was not by half, no erased byte."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection as Container
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE
from app.adapters.local_gallery.snapshot import MANIFEST
from app.core.records import Filter
from tests.faults.world import LOBBY, States, crop, item, item_id, number_of, state_of, unit_vectors

EVERYTHING = 1_000_000
_SEARCHED = 40  # items that look for themselves; `check` compares the index with the database row by row


class Broken(AssertionError):
    """A promise that did not hold."""


def require(holds: bool, sentence: str) -> None:
    """Raises Broken."""
    if not holds:
        raise Broken(sentence)


def whole(gallery: LocalGallery) -> None:
    """`reid check` finds nothing. Raises Broken."""
    report = gallery.upkeep.check(False, lambda: False)
    faults = [f"{finding.what}: {fault}" for finding in report.findings for fault in finding.faults]
    require(report.ok, "; ".join(faults))


def stands(gallery: LocalGallery, name: str, allowed: Sequence[States]) -> int:
    """Which of these the collection is, to the last item, vector and crop; raises Broken where it is none."""
    stored = {number_of(one): one for one in gallery.scan(name, Filter(), limit=EVERYTHING)}
    found = {number: state_of(one) for number, one in stored.items()}
    require(found in allowed, f"{name}: {_difference(found, allowed)}")
    states = allowed[list(allowed).index(found)]
    require(gallery.count(name) == len(states), f"{name}: {gallery.count(name)} in the index, {len(states)} stored")
    for number, state in states.items():
        require(stored[number] == item(number, state), f"{name}: {stored[number]} is not whole")
    if states:
        _vectors(gallery, name, {number: states[number] for number in sorted(states)})
    return list(allowed).index(found)


def _vectors(gallery: LocalGallery, name: str, states: States) -> None:
    expected = unit_vectors(states)
    units, _ = gallery.vectors(name, [item_id(number) for number in states])
    require(bool((units == expected).all()), f"{name}: a vector is not the one that was put in")
    rows = np.unique(np.linspace(0, len(states) - 1, _SEARCHED).astype(int))
    numbers = list(states)
    for row, (match,) in zip(rows, gallery.search(name, expected[rows], 1, Filter()), strict=True):
        require(match.item.id == item_id(numbers[row]), f"{name}: {item_id(numbers[row])} does not find itself")
        if name == LOBBY.name:
            kept, number = gallery.crop(name, match.item.id), numbers[row]
            require(kept is not None and bool((kept == crop(number, states[number].version)).all()), f"crop {number}")


def _difference(found: States, allowed: Sequence[States]) -> str:
    nearest = min(allowed, key=lambda states: len(set(states.items()) ^ set(found.items())))
    lost = {number: state for number, state in nearest.items() if found.get(number) != state}
    strange = {number: state for number, state in found.items() if nearest.get(number) != state}
    return f"missing {lost}, there instead {strange}; {len(allowed)} states were allowed"


def nowhere(directory: Path, needles: Container[bytes]) -> None:
    """None of these, each of eight bytes at least, is in any file below the directory. Raises Broken."""
    by_end = defaultdict(list)
    for needle in needles:
        by_end[int.from_bytes(needle[-8:], "little")].append(needle)
    ends = np.array(list(by_end), dtype=np.uint64)
    for path in directory.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for end, number in _words(content, ends):
            for needle in by_end[number]:
                start = end - len(needle)
                at_start = start >= 0 and content.startswith(needle, start)
                require(not at_start, f"{needle!r} was erased, and is at {start} of {path.name}")


def _words(content: bytes, wanted: npt.NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Where, at any byte, one of these eight-byte numbers ends; thousands are looked for in one pass."""
    table = np.zeros(2**16, dtype=bool)
    table[wanted & 0xFFFF] = True  # most places are no candidates by two of their bytes
    for shift in range(min(8, max(0, len(content) - 7))):
        words = np.frombuffer(content, "<u8", (len(content) - shift) // 8, shift)
        places = np.flatnonzero(table[words & 0xFFFF])
        for place in places[np.isin(words[places], wanted)].tolist():
            yield shift + 8 * place + 8, int(words[place])


def snapshots_are_whole(folder: Path, acknowledged: Mapping[str, int], gone: Container[str]) -> None:
    """Each in the folder is whole, those that were acknowledged are there, with so many items in the lobby. Raises Broken."""
    there = {path.name: path for path in folder.glob("[0-9]*")}
    require(acknowledged.keys() <= there.keys(), f"snapshots {acknowledged.keys() - there.keys()} are gone")
    require(not any(name in gone for name in there), "a snapshot that was deleted is there")
    for name, path in there.items():
        require((path / MANIFEST).is_file(), f"the snapshot {name} has no manifest")
        told = json.loads((path / MANIFEST).read_bytes())
        sha256 = hashlib.sha256((path / FILE).read_bytes()).hexdigest()
        require(told["sha256"] == sha256, f"the snapshot {name} has not the content that its manifest tells")
        counted = told["collections"].get(LOBBY.name, 0)
        require(acknowledged.get(name, counted) == counted, f"the snapshot {name} has {counted} items of the lobby")
