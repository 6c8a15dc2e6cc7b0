"""What filters look at: one array for each field of a segment's items, so that a filter is a few array operations."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from app.adapters.local_gallery.index import Mask, Rows
from app.core.records import Filter, Item

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = np.iinfo(np.int64).min  # of an item without a time
_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Column:
    """One text per row, as numbers: a filter looks at each distinct text once. Rows without one have -1."""

    numbers: Mapping[str, int]
    codes: npt.NDArray[np.int32]

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> "Column":
        """A column of these texts."""
        numbers: dict[str, int] = {}
        codes = [-1 if text is None else numbers.setdefault(text, len(numbers)) for text in texts]
        return cls(numbers, np.array(codes, dtype=np.int32))

    @classmethod
    def joined(cls, parts: Sequence[tuple["Column", Rows]]) -> "Column":
        """These rows of some columns, one after another; texts that no row has any more are forgotten."""
        numbers: dict[str, int] = {}
        codes = [np.empty(0, dtype=np.int32)]
        for column, rows in parts:
            own = column.codes[rows]
            used = np.zeros(len(column.numbers) + 1, dtype=bool)
            used[own] = True
            translated = np.full(len(column.numbers) + 1, -1, dtype=np.int32)  # its last place, which is also -1, stays
            for text, number in column.numbers.items():
                if used[number]:
                    translated[number] = numbers.setdefault(text, len(numbers))
            codes.append(translated[own])
        return cls(numbers, np.concatenate(codes))

    def with_text(self, rows: Rows, text: str | None) -> "Column":
        """The same, but for some rows that have this text."""
        numbers = self.numbers if text is None or text in self.numbers else {**self.numbers, text: len(self.numbers)}
        codes = self.codes.copy()
        codes[rows] = -1 if text is None else numbers[text]
        return Column(numbers, codes)

    def texts(self, rows: Rows) -> set[str]:
        """Those of these rows."""
        names = list(self.numbers)  # their numbers are their places
        return {names[number] for number in np.unique(self.codes[rows]).tolist() if number >= 0}

    def among(self, wanted: Iterable[str]) -> Mask:
        """Which rows have one of these texts."""
        chosen = np.zeros(len(self.numbers) + 1, dtype=bool)  # its last place, which is also -1, stays False
        chosen[[self.numbers[text] for text in wanted if text in self.numbers]] = True
        return np.asarray(chosen[self.codes])

    def coded(self, numbers: Mapping[str, int]) -> npt.NDArray[np.int64]:
        """The rows' texts by these numbers, -1 for texts that have none."""
        chosen = np.full(len(self.numbers) + 1, -1, dtype=np.int64)
        for text, number in numbers.items():
            if text in self.numbers:
                chosen[self.numbers[text]] = number
        return np.asarray(chosen[self.codes])


@dataclass(frozen=True, slots=True)
class Columns:
    """The fields of some items. captured: microseconds since 1970; attributes: the rows of each key and value, ascending."""

    persons: Column
    cameras: Column
    captured: npt.NDArray[np.int64]
    attributes: Mapping[tuple[str, str], Rows]

    @classmethod
    def of(cls, items: Sequence[Item]) -> "Columns":
        """The columns of these items."""
        attributes: dict[tuple[str, str], list[int]] = {}
        for row, item in enumerate(items):
            for pair in item.attributes.items():
                attributes.setdefault(pair, []).append(row)
        return cls(
            Column.of(item.person_id for item in items),
            Column.of(item.camera_id for item in items),
            np.array([_microseconds(item.captured_at) for item in items], dtype=np.int64),
            {pair: np.array(rows, dtype=np.int64) for pair, rows in attributes.items()},
        )

    @classmethod
    def joined(cls, parts: Sequence[tuple["Columns", Rows]]) -> "Columns":
        """These rows (ascending) of some columns, one after another."""
        attributes: dict[tuple[str, str], list[Rows]] = {}
        start = 0
        for columns, rows in parts:
            for pair, having in columns.attributes.items():
                kept = np.flatnonzero(np.isin(rows, having, assume_unique=True)) + start
                if len(kept):
                    attributes.setdefault(pair, []).append(kept)
            start += len(rows)
        return cls(
            Column.joined([(columns.persons, rows) for columns, rows in parts]),
            Column.joined([(columns.cameras, rows) for columns, rows in parts]),
            np.concatenate([np.empty(0, dtype=np.int64), *(columns.captured[rows] for columns, rows in parts)]),
            {pair: np.concatenate(kept) for pair, kept in attributes.items()},
        )

    def with_person(self, rows: Rows, person_id: str | None) -> "Columns":
        """The same, but for some rows that are this person's."""
        return replace(self, persons=self.persons.with_text(rows, person_id))

    def accepted(self, where: Filter, mask: Mask) -> Mask:
        """Which rows of the mask the filter accepts, as far as it does not ask for ids."""
        if where.persons is not None:
            mask = mask & self.persons.among(where.persons)
        if where.cameras is not None:
            mask = mask & self.cameras.among(where.cameras)
        if where.not_camera is not None:
            mask = mask & ~self.cameras.among((where.not_camera,))
        if where.captured_from is not None or where.captured_to is not None:
            mask = mask & self._within(where.captured_from, where.captured_to)
        for pair in where.attributes:
            mask = mask & self._having(pair)
        return mask

    def _within(self, earliest: datetime | None, end: datetime | None) -> Mask:
        first = _NEVER + 1 if earliest is None else _microseconds(earliest)
        return (self.captured >= first) & (self.captured < (_LAST if end is None else _microseconds(end)))

    def _having(self, pair: tuple[str, str]) -> Mask:
        mask = np.zeros(len(self.captured), dtype=bool)
        mask[self.attributes.get(pair, [])] = True
        return mask


def _microseconds(instant: datetime | None) -> int:
    return _NEVER if instant is None else (instant - _EPOCH) // timedelta(microseconds=1)
