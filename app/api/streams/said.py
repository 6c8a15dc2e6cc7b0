"""What is said of crops: by name, or one after the other. In JSON (the field `metadata`) or in lines of it (`items.ndjson`)."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from app.api.schemas import DescriptionIn, EntryIn
from app.errors import BadField
from app.service.incoming import Description

_MOST_AT_ONCE, _MOST_LINES = 10_000, 100_000  # read as one piece of JSON, which takes 1 kB each, or line by line
_METADATA = TypeAdapter(
    Annotated[list[DescriptionIn], Field(max_length=_MOST_AT_ONCE)]
    | Annotated[dict[str, DescriptionIn], Field(max_length=_MOST_AT_ONCE)]
)


class Said:
    """Descriptions by name or in order. Raises BadField where they and the crops do not fit each other."""

    def __init__(self, where: str, rows: Mapping[str, Description] | Sequence[Description] | None = None) -> None:
        """where: names the place in sentences. rows: None where nothing is said."""
        self._where, self._rows = where, rows
        self._asked = 0
        self._unused = set(rows) if isinstance(rows, Mapping) else set[str]()

    def of(self, name: str) -> Description:
        """What is said of the next crop, which has this name."""
        self._asked += 1
        if self._rows is None:
            return Description()
        if isinstance(self._rows, Mapping):
            self._unused.discard(name)
            return self._rows.get(name, Description())
        if self._asked > len(self._rows):
            raise BadField(self._where, f"{len(self._rows)} entries, and more images than that")
        return self._rows[self._asked - 1]

    def finish(self) -> None:
        """All crops have come. Raises BadField where more are described."""
        if self._unused:
            raise BadField(
                self._where, f"no image is named {min(self._unused)!r}, one of {len(self._unused)} that did not come"
            )
        if isinstance(self._rows, Sequence) and self._asked < len(self._rows):
            raise BadField(self._where, f"{len(self._rows)} entries for {self._asked} images")


def read_metadata(text: bytes) -> Said:
    """The field `metadata`: a list with one object per image, or an object by file name. Raises BadField."""
    try:
        given = _METADATA.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadField(".".join(("metadata", *map(str, first["loc"][1:]))), first["msg"]) from error
    if isinstance(given, list):
        return Said("metadata", [description(row) for row in given])
    return Said("metadata", {name: description(row) for name, row in given.items()})


def read_items(text: bytes) -> Said:
    """Lines that each name an entry of an archive and say what is known of it. Raises BadField, naming the line."""
    rows: dict[str, Description] = {}
    for number, entry in read_entries(text, "items.ndjson"):
        if entry.name is None:
            raise BadField("items.ndjson", f"line {number}: has no `name`")
        rows[entry.name.removeprefix("./")] = description(entry)
    return Said("items.ndjson", rows)


def read_entries(text: bytes, where: str) -> Iterator[tuple[int, EntryIn]]:
    """One object a line, each with its line's number; empty lines are left out. Raises BadField."""
    for number, line in enumerate(io.BytesIO(text), start=1):
        if number > _MOST_LINES:
            raise BadField(
                where, f"more than {_MOST_LINES} lines; an archive may have several of them, each for what follows"
            )
        if not line.strip():
            continue
        try:
            entry = EntryIn.model_validate_json(line)
        except ValidationError as error:
            raise BadField(where, f"line {number}: {first_fault(error)}") from error
        yield number, entry


def description(given: DescriptionIn) -> Description:
    """As the service has it."""
    return Description(given.id, given.person_id, given.camera_id, given.captured_at, given.attributes)


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, with its place."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"not JSON: {first['msg']}"
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
