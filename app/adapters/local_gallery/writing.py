"""What a write does to the database, to the view that is to be published, and to the audit. It runs inside a transaction."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from app.adapters.checks import checked_items
from app.adapters.local_gallery import audit, erase, slots
from app.adapters.local_gallery.commits import Views
from app.adapters.local_gallery.rows import (
    COLLECTION_COLUMNS,
    ITEM_COLUMNS,
    UPSERT,
    collection_to_row,
    condition,
    from_blobs,
    item_to_row,
    listed,
    row_to_item,
    to_blob,
    to_text,
)
from app.adapters.local_gallery.segment import Entries, Sequences
from app.adapters.local_gallery.view import View
from app.core.audit import Action, AuditHead
from app.core.erasing import Names
from app.core.records import Collection, Filter, Item, Merge, Outcome, Retention
from app.errors import NothingToUndo, PersonExists, UnknownCollection, UnknownItem, UnknownPerson
from app.ports import Floats

_IN = "seq in (select value from json_each(?))"


@dataclass(frozen=True, slots=True)
class Writing:
    """One write to collections, at one instant."""

    db: sqlite3.Connection
    views: Views
    now: datetime

    def put_collection(self, collection: Collection) -> Collection:
        """Create it, or return the one that is there."""
        if collection.name not in self.views:
            marks = ", ".join("?" * len(COLLECTION_COLUMNS.split(",")))
            sql = f"insert into collection ({COLLECTION_COLUMNS}) values ({marks}) returning id"
            (collection_id,) = self.db.execute(sql, collection_to_row(collection)).fetchone()
            self.views[collection.name] = View(collection, collection_id, 0)
        return self.views[collection.name].collection

    def delete_collection(self, name: str) -> int:
        """Remove it; returns its number, by which its index files are known."""
        view = self._view(name)
        sql = "select id, person_id from item where collection_id = ? order by seq"
        rows = self.db.execute(sql, (view.collection_id,)).fetchall()
        self.db.execute("delete from collection where id = ?", (view.collection_id,))
        del self.views[name]
        details, persons = {"items": len(rows)}, {person for _, person in rows}
        self._tell("delete_collection", name, details, [item_id for item_id, _ in rows], persons)
        return view.collection_id

    def keep(self, name: str, retention: Retention) -> Collection:
        """Change how long items stay."""
        view = self._view(name)
        changed = replace(view.collection, retention=retention)
        sql = "update collection set keep_days = ?, camera_keep_days = ? where id = ?"
        self.db.execute(sql, (*collection_to_row(changed)[-2:], view.collection_id))
        self.views[name] = replace(view, collection=changed)
        return changed

    def upsert(
        self, expected: Collection, items: Sequence[Item], units: Floats, norms: Floats, pixels: Sequence[bytes | None]
    ) -> list[Outcome]:
        """Add or replace. expected: the collection for which the items were checked."""
        view = self._view(expected.name)
        c = view.collection
        if (c.fingerprint, c.dim, c.keep_crops, c.created_at) != (
            expected.fingerprint, expected.dim, expected.keep_crops, expected.created_at,
        ):  # fmt: skip
            raise UnknownCollection(expected.name)  # deleted and made anew since the checks
        revision = view.revision + 1
        written = [
            self._write(view.collection_id, revision, *row)
            for row in zip(items, map(to_blob, units), norms.tolist(), pixels, strict=True)
        ]
        position = {seq: i for i, (outcome, seq, _) in enumerate(written) if outcome != "unchanged"}
        if position:
            places = list(position.values())  # where an id came twice, of the later one
            fresh = Entries.of(list(position), revision, (items[i] for i in places), units[places], norms[places])
            self._publish(view.with_entries(fresh))
            before = {person for outcome, _, person in written if outcome == "updated"}
            persons = before | {items[i].person_id for i in places}
            outcomes = [outcome for outcome, _, _ in written]
            details = {name: outcomes.count(name) for name in ("added", "updated")}
            self._tell("add", expected.name, details, [items[i].id for i in places], persons)
        return [outcome for outcome, _, _ in written]

    def correct(self, name: str, item_id: str, changes: Mapping[str, Any]) -> Item:
        """Change what these fields say of an item that is there."""
        view = self._view(name)
        sql = f"select seq, norm, revision, {ITEM_COLUMNS} from item where collection_id = ? and id = ?"
        row = self.db.execute(sql, (view.collection_id, item_id)).fetchone()
        if row is None:
            raise UnknownItem(name, item_id)
        (seq, norm, revision), before = row[:3], row_to_item(row[3:])
        (item,) = checked_items([replace(before, **changes)])
        if item != before:
            columns = ", ".join(f"{column} = ?" for column in ITEM_COLUMNS.split(", "))
            self.db.execute(f"update item set {columns} where seq = ?", (*item_to_row(item), seq))
            (blob,) = self.db.execute("select unit from vector where seq = ?", (seq,)).fetchone()
            vectors, norms = from_blobs([blob], view.collection.dim), np.array([norm], dtype=np.float32)
            self._publish(view.with_entries(Entries.of([seq], revision, [item], vectors, norms)))
            self._tell("correct", name, {"items": 1}, [item.id], {before.person_id, item.person_id})
        return item

    def delete(self, name: str, where: Filter) -> "Removed":
        """Delete the items that the filter accepts."""
        return self._remove(name, *condition(where), "delete")

    def erase(self, name: str, where: Filter) -> "Erased":
        """The same, told in the audit whatever was found: also that of ids or persons that are not there any more.

        Persons are erased whole where the filter names them and nothing else; `persons` of the line says how many. What
        else in the database names an item that is gone, or a person of whom nothing is left, forgets it.
        """
        items, persons = frozenset[str](), frozenset[str]()
        if where == Filter(persons=where.persons):
            persons = where.persons or persons
        elif where == Filter(ids=where.ids):
            items = where.ids or items
        removed = self._remove(name, *condition(where), "erase", items, persons)
        people = {item.person_id for item in removed.items if item.person_id is not None} | (where.persons or persons)
        people |= self._forget_merge(name, removed.seqs)
        ids = self._gone(name, "id", {item.id for item in removed.items} | (where.ids or items))
        names = erase.forget(self.db, name, removed.items, ids, self._gone(name, "person_id", people), self.now)
        assert removed.audit is not None
        return Erased(len(removed.items), removed.audit, ids, persons, names)

    def expire(self, name: str) -> int:
        """Delete the items that have stayed for as long as their camera, or the collection, keeps them."""
        retention = self._view(name).collection.retention
        of_cameras = {camera: self._days_ago(days) for camera, days in retention.cameras.items()}
        general = None if retention.keep_days is None else self._days_ago(retention.keep_days)
        latest = max((*of_cameras.values(), general or ""))  # so that an index tells who may be old enough
        of_camera = "(select value from json_each(?) as kept where kept.key = camera_id)"
        is_old = f"added_at <= ? and added_at <= coalesce({of_camera}, ?)"
        removed = self._remove(name, is_old, [latest, json.dumps(of_cameras), general], "expire")
        return len(removed.items)

    def move(self, name: str, where: Filter, person_id: str | None, action: Action = "move") -> int:
        """Make the accepted items this person's."""
        view = self._view(name)
        accepted, values = condition(where)
        sql = f"select seq, id, person_id from item where collection_id = ? and person_id is not ? and {accepted}"
        rows = self.db.execute(sql, (view.collection_id, person_id, *values)).fetchall()
        if rows:
            seqs = [seq for seq, _, _ in rows]
            self.db.execute(f"update item set person_id = ? where {_IN}", (person_id, json.dumps(seqs)))
            self._publish(view.relabelled(_sorted(seqs), person_id))
            persons = {before for _, _, before in rows} | {person_id}
            self._tell(action, name, {"items": len(rows)}, [item_id for _, item_id, _ in rows], persons)
        return len(rows)

    def rename(self, name: str, person_id: str, new: str) -> int:
        """Call a person by a name that is nobody's."""
        view = self._view(name)
        if not self._of_person(view, person_id, "1"):
            raise UnknownPerson(name, person_id)
        if person_id != new and self._of_person(view, new, "1"):
            raise PersonExists(name, new)
        return self.move(name, Filter(persons=frozenset({person_id})), new)

    def merge(self, name: str, person_id: str, into: str) -> Merge:
        """Make one person's items another's, and remember them."""
        view = self._view(name)
        seqs = [seq for (seq,) in self._of_person(view, person_id, "seq")]
        for person in (person_id, into):
            if not self._of_person(view, person, "1"):
                raise UnknownPerson(name, person)
        moved = 0
        if person_id != into:
            moved = self.move(name, Filter(persons=frozenset({person_id})), into, "merge")
            row = (view.collection_id, person_id, into, to_text(self.now), json.dumps(seqs))
            columns = "collection_id, person_id, into_person_id, merged_at, seqs"
            self.db.execute(f"insert or replace into merge ({columns}) values (?, ?, ?, ?, ?)", row)
        return Merge(person_id, into, moved)

    def undo_merge(self, name: str) -> Merge:
        """Give back what the last merge moved and is still there."""
        view = self._view(name)
        sql = "delete from merge where collection_id = ? returning person_id, into_person_id, seqs"
        row = self.db.execute(sql, (view.collection_id,)).fetchone()
        if row is None:
            raise NothingToUndo(name)
        person_id, into, seqs = row
        sql = f"select id from item where collection_id = ? and person_id = ? and {_IN}"
        ids = [item_id for (item_id,) in self.db.execute(sql, (view.collection_id, into, seqs)).fetchall()]
        moved = self.move(name, Filter(ids=frozenset(ids)), person_id, "undo_merge")
        return Merge(person_id, into, moved)

    def _write(
        self, collection_id: int, revision: int, item: Item, vector: bytes, norm: float, pixels: bytes | None
    ) -> tuple[Outcome, int, str | None]:
        """One item; what became of it, its sequence number, and whose it was before."""
        sql = f"select seq, vector_slot, crop_slot, {ITEM_COLUMNS} from item where collection_id = ? and id = ?"
        stored = self.db.execute(sql, (collection_id, item.id)).fetchone()
        row = item_to_row(item)
        if stored is not None:
            seq, *before = stored[:3]
            if stored[3:] == row:
                return "unchanged", seq, item.person_id
            for slot in before:
                slots.empty(self.db, slot)
        filled = slots.fill(self.db, vector), None if pixels is None else slots.fill(self.db, pixels)
        values = (collection_id, *row, norm, revision, *filled, to_text(self.now))
        (seq,) = self.db.execute(UPSERT, values).fetchone()
        return ("added", seq, None) if stored is None else ("updated", seq, row_to_item(stored[3:]).person_id)

    def _remove(
        self,
        name: str,
        accepted: str,
        values: Sequence[object],
        action: Action,
        ids: frozenset[str] = frozenset(),
        whole: frozenset[str] = frozenset(),
    ) -> "Removed":
        view = self._view(name)
        sql = f"delete from item where collection_id = ? and {accepted} returning seq, {ITEM_COLUMNS}"
        rows = self.db.execute(sql, (view.collection_id, *values)).fetchall()
        items = [row_to_item(row[1:]) for row in rows]
        if rows:
            self._publish(view.without(_sorted([row[0] for row in rows])))
        head = None
        details = {"items": len(rows)}
        if action == "erase":
            details["persons"] = len(whole)
        if rows or action == "erase":  # that an erase found nothing is worth knowing too
            persons = {item.person_id for item in items} | whole
            head = self._tell(action, name, details, sorted({item.id for item in items} | ids), persons)
        return Removed(items, [row[0] for row in rows], head)

    def _forget_merge(self, name: str, seqs: Sequence[int]) -> set[str]:
        """Forget the last merge if it moved any of these; returns the persons that it named."""
        where = "collection_id = ? and exists (select 1 from json_each(seqs) where value in (select value from json_each(?)))"
        sql = f"delete from merge where {where} returning person_id, into_person_id"
        return set(self.db.execute(sql, (self._view(name).collection_id, json.dumps(seqs))).fetchone() or ())

    def _gone(self, name: str, column: str, texts: set[str]) -> set[str]:
        """Those of these ids or persons that no item has any more."""
        sql = f"select distinct {column} from item where collection_id = ? and {column} in (select value from json_each(?))"
        rows = self.db.execute(sql, (self._view(name).collection_id, listed(texts))).fetchall()
        return texts - {text for (text,) in rows}

    def _of_person(self, view: View, person_id: str, columns: str) -> list[tuple[int]]:
        accepted, values = condition(Filter(persons=frozenset({person_id})))
        sql = f"select {columns} from item where collection_id = ? and {accepted}"
        return self.db.execute(sql, (view.collection_id, *values)).fetchall()

    def _publish(self, view: View) -> None:
        """The view is of the collection's next revision."""
        changed = view.at(view.revision + 1)
        self.db.execute("update collection set revision = ? where id = ?", (changed.revision, changed.collection_id))
        self.views[changed.collection.name] = changed

    def _tell(
        self, action: Action, name: str, details: dict[str, int], items: Sequence[str], persons: set[str | None]
    ) -> AuditHead:
        return audit.append(self.db, self.now, action, name, details, items, persons)

    def _days_ago(self, days: int) -> str:
        return to_text(self.now - timedelta(days=days))

    def _view(self, name: str) -> View:
        try:
            return self.views[name]
        except KeyError as error:
            raise UnknownCollection(name) from error


@dataclass(frozen=True, slots=True)
class Removed:
    """Items that are gone, and the audit's line that tells of it; None where there was nothing to tell."""

    items: Sequence[Item]
    seqs: Sequence[int]
    audit: AuditHead | None


@dataclass(frozen=True, slots=True)
class Erased:
    """How many items, and what is not there any more: their ids, and persons as far as they were named alone."""

    count: int
    audit: AuditHead
    ids: set[str]
    whole: frozenset[str]
    names: Names


def _sorted(seqs: list[int]) -> Sequences:
    return np.array(sorted(seqs), dtype=np.int64)
