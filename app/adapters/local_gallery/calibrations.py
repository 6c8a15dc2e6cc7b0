"""`CalibrationStore` in the gallery's database: a row per collection and kind of search, which goes with its collection."""

from collections.abc import Callable
from datetime import datetime

from app.adapters.checks import checked_calibrated
from app.adapters.local_gallery.database import Database
from app.adapters.local_gallery.rows import to_text
from app.core.calibrated import By, Calibrated
from app.errors import UnknownCollection

_PUT = """
insert into calibration (collection_id, search_by, fingerprint, items_count, created_at, data)
select id, ?, ?, ?, ?, ? from collection where name = ?
on conflict (collection_id, search_by) do update set fingerprint = excluded.fingerprint,
    items_count = excluded.items_count, created_at = excluded.created_at, data = excluded.data
"""
_GET = """
select search_by, calibration.fingerprint, items_count, calibration.created_at, data
from calibration join collection on collection_id = collection.id where name = ? and search_by = ?
"""


class LocalCalibrations:
    """As the port says."""

    def __init__(self, database: Database, known: Callable[[str], object]) -> None:
        """known: raises UnknownCollection for a name that the gallery does not hold."""
        self._database, self._known = database, known

    def put_calibration(self, collection: str, calibrated: Calibrated) -> None:
        """As the port says."""
        c = checked_calibrated(calibrated)
        self._known(collection)
        with self._database.transaction() as db:
            row = (c.by, c.fingerprint, c.items_count, to_text(c.created_at), c.data, collection)
            if not db.execute(_PUT, row).rowcount:  # deleted since it was asked for
                raise UnknownCollection(collection)

    def calibration(self, collection: str, by: By) -> Calibrated | None:
        """As the port says."""
        self._known(collection)
        with self._database.reading() as db:
            row = db.execute(_GET, (collection, by)).fetchone()
        if row is None:
            return None
        by, fingerprint, items_count, created_at, data = row
        return Calibrated(by, fingerprint, items_count, datetime.fromisoformat(created_at), data)
