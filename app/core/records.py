"""What the gallery remembers of a crop, what a search answers, and how a data set's file names become records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import regex

from app.errors import BadField, BadInput

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
JUNK, BACKGROUND = -1, 0  # Market-1501: half bodies, dropped; background, kept as a distractor
# `camera` takes all its digits: data sets with more than nine cameras exist.
PATTERNS: Mapping[str, str] = {
    "duke": r"(?P<person>-?\d+)_c(?P<camera>\d+)_",
    "market1501": r"(?P<person>-?\d+)_c(?P<camera>\d+)s\d+_",
    "msmt17": r"(?P<person>\d+)_\d+_(?P<camera>\d+)_",
}
PATTERN_TIMEOUT_S = 0.2
AUTO = r"(?P<person>-?\d+)_c(?P<camera>\d+)(?:s\d+)?[_.]"  # Duke, Market-1501, Occluded-Duke, CUHK03-NP

Outcome = Literal["added", "unchanged", "updated"]
PersonScore = Literal["centroid", "best"]


@dataclass(frozen=True, slots=True)
class Item:
    """A crop's entry in a collection.

    `sha256` is that of the encoded image as it was sent, or of the vector's bytes where only that was sent.
    """

    id: str
    sha256: str
    person_id: str | None = None
    camera_id: str | None = None
    captured_at: datetime | None = None
    source: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """An item that a search found, with its cosine to the query in [-1, 1]."""

    item: Item
    score: float


@dataclass(frozen=True, slots=True)
class PersonMatch:
    """A person that a search found. `best` is the item that is nearest to the query, of the `items` that were accepted.

    score: the cosine of the query and the centroid of these items, or of the query and the best one, as was asked.
    """

    person_id: str
    score: float
    items: int
    best: Match


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items count, all conditions at once; None means any.

    `not_camera` leaves out every item of one camera (items without a camera stay). The time window takes
    captured_from <= captured_at < captured_to; an item without a time is in no window. An item has to have all `attributes`
    (key and value). `exclude` are ids. Raises ValueError for an instant without a zone.
    """

    persons: frozenset[str] | None = None
    cameras: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    not_camera: str | None = None
    captured_from: datetime | None = None
    captured_to: datetime | None = None
    attributes: frozenset[tuple[str, str]] = frozenset()
    exclude: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for instant in (self.captured_from, self.captured_to):
            if instant is not None and instant.utcoffset() is None:
                raise ValueError(f"{instant} has no time zone")

    def accepts(self, item: Item) -> bool:
        """Whether the item counts."""
        return (
            (self.persons is None or item.person_id in self.persons)
            and (self.cameras is None or item.camera_id in self.cameras)
            and (self.ids is None or item.id in self.ids)
            and (self.not_camera is None or item.camera_id != self.not_camera)
            and item.id not in self.exclude
            and self._in_window(item.captured_at)
            and self.attributes <= item.attributes.items()
        )

    def _in_window(self, captured_at: datetime | None) -> bool:
        if self.captured_from is None and self.captured_to is None:
            return True
        return (
            captured_at is not None
            and (self.captured_from is None or captured_at >= self.captured_from)
            and (self.captured_to is None or captured_at < self.captured_to)
        )


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days items stay, from when they came in; None: for ever. A camera's own number goes before the collection's."""

    keep_days: int | None = None
    cameras: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collection:
    """A named gallery, bound to the fingerprint of the model variant whose vectors it holds."""

    name: str
    fingerprint: str
    dim: int
    keep_crops: bool
    created_at: datetime
    retention: Retention = Retention()


@dataclass(frozen=True, slots=True)
class Person:
    """An identity, as its items tell. first_captured, last_captured: of those that have a time."""

    person_id: str
    items: int
    cameras: tuple[str, ...]
    first_captured: datetime | None
    last_captured: datetime | None


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What answers searches of a collection. kind: "exact", or "codes" where one-bit codes choose what is scored exactly.

    coded: items with a code; the rest is scanned. bytes: held in memory for searches. pending: whether work on it is under way.
    """

    kind: Literal["exact", "codes"]
    items: int
    coded: int
    bytes: int
    pending: bool


@dataclass(frozen=True, slots=True)
class Merge:
    """Items of one person that became another's."""

    person_id: str
    into: str
    items: int


@dataclass(frozen=True, slots=True)
class Label:
    """Person and camera as a file name tells them, digits as written."""

    person_id: str
    camera_id: str


class NamePattern:
    """Reads labels off base names, by a known layout's name or an expression with groups `person` and `camera`.

    >>> NamePattern("duke").read("0005_c2_f0046985.jpg")
    Label(person_id='0005', camera_id='2')
    """

    def __init__(self, pattern: str = "auto") -> None:
        # Ours end soon; a caller's may take for ever on some names, and would hold the whole server.
        self._timeout_s = None if pattern == "auto" or pattern in PATTERNS else PATTERN_TIMEOUT_S
        # Market-1501's person 0000 is background; MSMT17's, and anyone else's, is a person.
        self.has_background = pattern in ("auto", "duke", "market1501")
        expression = AUTO if pattern == "auto" else PATTERNS.get(pattern, pattern)
        try:
            self._expression = regex.compile(expression)
        except (regex.error, OverflowError, RecursionError, ValueError) as error:
            raise BadField("pattern", f"{pattern!r} is no regular expression: {error}") from error
        if missing := {"person", "camera"} - set(self._expression.groupindex):
            raise BadField(
                "pattern", f"{pattern!r} is neither one of {_known()} nor has it the groups {_groups(missing)}"
            )

    def read(self, name: str) -> Label | None:
        """The label in a base name, anchored at its beginning; None where the name does not fit. Raises BadField."""
        try:
            found = self._expression.match(name, timeout=self._timeout_s)
        except TimeoutError as error:
            raise BadField("pattern", f"takes more than {PATTERN_TIMEOUT_S} s on the name {name!r}") from error
        if not found or found["person"] is None or found["camera"] is None:
            return None
        return Label(found["person"], found["camera"])


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """The files of a folder by kind, each in byte order of their names."""

    labelled: tuple[tuple[str, Label], ...]
    unlabelled: tuple[str, ...]  # pictures whose names do not fit the pattern
    junk: tuple[str, ...]  # pictures labelled as bad detections
    skipped: tuple[str, ...]  # no pictures


def sort_names(names: Iterable[str]) -> list[str]:
    """Names in byte order, the same on every machine."""
    return sorted(names, key=lambda name: name.encode(errors="surrogateescape"))


def pictures(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names that may be pictures', sorted, and the others: other endings, hidden files (`._x.jpg`), names no one can store."""
    found: list[str] = []
    skipped: list[str] = []
    for name in sort_names(names):
        base = name.rpartition("/")[2]
        plain = not base.startswith(".") and base.lower().endswith(IMAGE_SUFFIXES) and is_storable(name)
        (found if plain else skipped).append(name)
    return found, skipped


def label_files(names: Iterable[str], pattern: NamePattern) -> NamedFiles:
    """Sort a folder's files by what their names say. Raises BadField for a pattern that takes too long."""
    found, skipped = pictures(names)
    return replace(label_names(found, pattern), skipped=tuple(skipped))


def label_names(names: Iterable[str], pattern: NamePattern) -> NamedFiles:
    """Names of crops' files by what they say, in the order given; whatever their ending, none is skipped.

    Raises BadField for a pattern that takes too long.
    """
    labelled: list[tuple[str, Label]] = []
    unlabelled: list[str] = []
    junk: list[str] = []
    for name in names:
        label = pattern.read(name.rpartition("/")[2])
        if label is None:
            unlabelled.append(name)
        elif is_junk(label.person_id):
            junk.append(name)
        else:
            labelled.append((name, label))
    return NamedFiles(tuple(labelled), tuple(unlabelled), tuple(junk), ())


def require_labels(files: NamedFiles) -> None:
    """Raises BadInput, naming up to five, when there are pictures and no name of them fits the pattern."""
    if files.unlabelled and not files.labelled and not files.junk:
        raise BadInput(f"no file name fits the pattern, among them {', '.join(files.unlabelled[:5])}")


def check_texts(item: Item) -> None:
    """Raises BadField for text in the item that no database keeps as it is."""
    for name in ("id", "sha256", "person_id", "camera_id", "source"):
        check_text(name, getattr(item, name) or "")
    for key, value in item.attributes.items():
        check_text("attributes", key)
        check_text("attributes", value)


def check_text(field_name: str, text: str) -> None:
    """Raises BadField for text that is not storable."""
    if not is_storable(text):
        raise BadField(field_name, f"{text!r} holds a character that cannot be stored")


def is_storable(text: str) -> bool:
    """Not with a zero byte, nor with half a surrogate pair, which Python makes of file names that are not UTF-8."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def is_junk(person_id: str) -> bool:
    """Whether the label stands for a bad detection, as Market-1501 marks it."""
    return _number(person_id) == JUNK


def is_background(person_id: str) -> bool:
    """Whether the label stands for nobody in particular: a distractor that is never asked for."""
    return _number(person_id) == BACKGROUND


def _number(person_id: str) -> int | None:
    try:
        return int(person_id)
    except ValueError:
        return None


def _known() -> str:
    return ", ".join(("auto", *PATTERNS))


def _groups(missing: set[str]) -> str:
    return " and ".join(f"(?P<{name}>...)" for name in sorted(missing))
