"""Between records and SQL: columns to items and back, filters to conditions."""

import json
import sqlite3
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from app.core.preprocess import HEIGHT, WIDTH, Crop
from app.core.records import Collection, Filter, Item
from app.ports import Floats

ITEM_COLUMNS = "id, sha256, person_id, camera_id, captured_at, source, attributes"
UPSERT = f"""
insert into item (collection_id, {ITEM_COLUMNS}, norm, vector) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (collection_id, id) do update set sha256 = excluded.sha256, person_id = excluded.person_id,
    camera_id = excluded.camera_id, captured_at = excluded.captured_at, source = excluded.source,
    attributes = excluded.attributes, norm = excluded.norm, vector = excluded.vector
returning seq
"""


def item_to_row(item: Item) -> tuple[object, ...]:
    """In the order of ITEM_COLUMNS."""
    attributes = json.dumps(dict(item.attributes), sort_keys=True)
    return item.id, item.sha256, item.person_id, item.camera_id, to_text(item.captured_at), item.source, attributes


def row_to_item(row: tuple[Any, ...]) -> Item:
    """From ITEM_COLUMNS."""
    captured_at = datetime.fromisoformat(row[4]) if row[4] is not None else None
    return Item(row[0], row[1], row[2], row[3], captured_at, row[5], json.loads(row[6]))


def row_to_collection(row: tuple[Any, ...]) -> Collection:
    """From name, fingerprint, dim, keep_crops, created_at."""
    return Collection(row[0], row[1], row[2], bool(row[3]), datetime.fromisoformat(row[4]))


def to_text(instant: datetime | None) -> str | None:
    """RFC 3339 in UTC; a time without a zone is taken for UTC."""
    if instant is None:
        return None
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat()


def deflate(crop: Crop) -> bytes:
    """A crop's pixels, lossless."""
    return zlib.compress(np.ascontiguousarray(crop).tobytes(), 1)


def inflate(pixels: bytes) -> Crop:
    """Back to uint8 [256, 128, 3]."""
    return np.frombuffer(zlib.decompress(pixels), dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)


def to_blob(vector: Floats) -> bytes:
    """Little-endian float32."""
    return vector.astype("<f4").tobytes()


def from_blobs(blobs: Iterable[bytes], dim: int) -> Floats:
    """float32 [n, dim]."""
    return np.frombuffer(b"".join(blobs), dtype="<f4").reshape(-1, dim).astype(np.float32)


def condition(where: Filter) -> tuple[str, list[object]]:
    """A filter as SQL, with its values; lists travel as JSON, so that their length has no limit."""
    parts, values = ["1"], list[object]()
    for column, wanted in (("person_id", where.persons), ("camera_id", where.cameras), ("id", where.ids)):
        if wanted is not None:
            parts.append(f"{column} in (select value from json_each(?))")
            values.append(json.dumps(sorted(wanted)))
    if where.not_camera is not None:
        parts.append("camera_id is not ?")
        values.append(where.not_camera)
    return " and ".join(parts), values


def seq_of(connection: sqlite3.Connection, collection_id: int, item_id: str) -> int | None:
    """An item's place in the order added."""
    sql = "select seq from item where collection_id = ? and id = ?"
    row = connection.execute(sql, (collection_id, item_id)).fetchone()
    return None if row is None else int(row[0])
