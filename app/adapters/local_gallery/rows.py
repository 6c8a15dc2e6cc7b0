"""Between records and SQL: columns to items and back, filters to conditions."""

import json
import sqlite3
import sys
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from app.core.preprocess import HEIGHT, WIDTH, Crop
from app.core.records import Collection, Filter, Item, Retention, is_storable
from app.ports import Floats

_PAGE = 4096  # bytes
ITEM_COLUMNS = "id, sha256, person_id, camera_id, captured_at, source, attributes"
COLLECTION_COLUMNS = "name, fingerprint, dim, keep_crops, created_at, keep_days, camera_keep_days"
UPSERT = f"""
insert into item (collection_id, {ITEM_COLUMNS}, norm, revision, vector_slot, crop_slot, added_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (collection_id, id) do update set sha256 = excluded.sha256, person_id = excluded.person_id,
    camera_id = excluded.camera_id, captured_at = excluded.captured_at, source = excluded.source,
    attributes = excluded.attributes, norm = excluded.norm, revision = excluded.revision,
    vector_slot = excluded.vector_slot, crop_slot = excluded.crop_slot
returning seq
"""


def item_to_row(item: Item) -> tuple[object, ...]:
    """In the order of ITEM_COLUMNS. Equal items give equal rows."""
    captured_at = None if item.captured_at is None else to_text(item.captured_at)
    attributes = json.dumps(dict(item.attributes), sort_keys=True)
    return item.id, item.sha256, item.person_id, item.camera_id, captured_at, item.source, attributes


def row_to_item(row: tuple[Any, ...]) -> Item:
    """From ITEM_COLUMNS."""
    item_id, sha256, person_id, camera_id, captured_at, source, attributes = row
    instant = None if captured_at is None else datetime.fromisoformat(captured_at)
    said = {} if attributes == "{}" else json.loads(attributes)
    return Item(item_id, sha256, _shared(person_id), _shared(camera_id), instant, source, said)


def collection_to_row(collection: Collection) -> tuple[object, ...]:
    """In the order of COLLECTION_COLUMNS."""
    c, kept = collection, collection.retention
    cameras = json.dumps(dict(kept.cameras), sort_keys=True)
    return c.name, c.fingerprint, c.dim, c.keep_crops, to_text(c.created_at), kept.keep_days, cameras


def row_to_collection(row: tuple[Any, ...]) -> Collection:
    """From COLLECTION_COLUMNS."""
    name, fingerprint, dim, keep_crops, created_at, keep_days, cameras = row
    retention = Retention(keep_days, json.loads(cameras))
    return Collection(name, fingerprint, dim, bool(keep_crops), datetime.fromisoformat(created_at), retention)


def to_text(instant: datetime) -> str:
    """RFC 3339 in UTC, always of one length."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def deflate(crop: Crop) -> bytes:
    """A crop's pixels, lossless; zeros behind them make a whole number of pages, so that a slot fits many crops."""
    pixels = zlib.compress(np.ascontiguousarray(crop).tobytes(), 1)
    return pixels + bytes(-len(pixels) % _PAGE)


def inflate(pixels: bytes) -> Crop:
    """Back to uint8 [256, 128, 3]."""
    return np.frombuffer(bytearray(zlib.decompress(pixels)), dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)


def to_blob(vector: Floats) -> bytes:
    """Little-endian float32."""
    return vector.astype("<f4").tobytes()


def from_blobs(blobs: Iterable[bytes], dim: int) -> Floats:
    """float32 [n, dim]. Raises ValueError where a blob has another length."""
    vectors = [np.frombuffer(blob, dtype="<f4") for blob in blobs]
    return np.array(vectors, dtype=np.float32).reshape(len(vectors), dim)


def condition(where: Filter) -> tuple[str, list[object]]:
    """A filter as SQL, with its values; lists travel as JSON, so that their length has no limit."""
    parts, values = ["1"], list[object]()
    for column, wanted in (("person_id", where.persons), ("camera_id", where.cameras), ("id", where.ids)):
        if wanted is not None:
            parts.append(f"{column} in (select value from json_each(?))")
            values.append(listed(wanted))
    if where.not_camera is not None:
        parts.append("(camera_id is null or camera_id not in (select value from json_each(?)))")
        values.append(listed([where.not_camera]))
    if where.exclude:
        parts.append("id not in (select value from json_each(?))")
        values.append(listed(where.exclude))
    for instant, comparison in ((where.captured_from, ">="), (where.captured_to, "<")):
        if instant is not None:  # as text, which sorts as the instants do; without a time nothing is true
            parts.append(f"captured_at {comparison} ?")
            values.append(to_text(instant))
    for pair in sorted(where.attributes):
        if not all(is_storable(text) for text in pair):
            return "0", []  # nothing that is stored has it, and SQLite would refuse or cut it
        parts.append("exists (select 1 from json_each(attributes) as pair where pair.key = ? and pair.value = ?)")
        values += pair
    return " and ".join(parts), values


def listed(texts: Iterable[str]) -> str:
    """Texts as JSON, which escapes half a surrogate pair: as a bound value it would be an error, here it equals nothing."""
    # No stored text holds a NUL, and SQLite's JSON would cut the value there: "a\0b" would mean the item "a".
    return json.dumps(sorted(text for text in texts if "\0" not in text))


def seq_of(connection: sqlite3.Connection, collection_id: int, item_id: str) -> int | None:
    """An item's place in the order added."""
    wanted, values = condition(Filter(ids=frozenset({item_id})))
    row = connection.execute(
        f"select seq from item where collection_id = ? and {wanted}", (collection_id, *values)
    ).fetchone()
    return None if row is None else int(row[0])


def _shared(text: str | None) -> str | None:
    """One string for all rows of a person or a camera: a million items have few of them."""
    return None if text is None else sys.intern(text)
