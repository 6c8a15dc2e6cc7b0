"""Jobs and calibrations on disk: what a restart finds, what an older database becomes, what a full disk does."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.database import FILE, Database
from app.core.calibrated import Calibrated
from app.core.jobs import Job, Progress
from app.core.records import Collection, Item
from app.errors import StorageFailed, UnknownCollection

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOBBY = Collection("lobby", "print-1", 2, keep_crops=False, created_at=NOON)
JOB = Job("a", "evaluate", {"folder": "market"}, NOON)
CALIBRATED = Calibrated("item", "print-1", 1, NOON, "{}")


def test_a_restart_finds_jobs_and_calibrations_as_they_were(tmp_path: Path) -> None:
    gallery = LocalGallery(tmp_path)
    gallery.put_collection(LOBBY)
    gallery.calibrations.put_calibration("lobby", CALIBRATED)
    running = replace(JOB, state="running", started_at=NOON, progress=Progress(3, 9, "gallery"))
    gallery.jobs.put_job(running)
    gallery.close()
    gallery = LocalGallery(tmp_path)
    assert gallery.jobs.jobs() == [running]
    assert gallery.calibrations.calibration("lobby", "item") == CALIBRATED
    gallery.close()


def test_a_gallery_from_before_there_were_jobs_keeps_its_items_and_takes_jobs(tmp_path: Path) -> None:
    first = files("app.adapters.local_gallery") / "migrations" / "0001_initial.sql"
    old = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    old.executescript(first.read_text(encoding="utf-8"))
    old.execute("insert into collection values (1, 'lobby', 'print-1', 2, 0, '2026-01-02T12:00:00.000000+00:00')")
    vector = np.array([1, 0], dtype="<f4").tobytes()
    old.execute("insert into item values (1, 1, 'a', 'sha', null, null, null, null, '{}', 1.0, ?)", (vector,))
    old.execute("pragma user_version = 1")
    old.close()
    gallery = LocalGallery(tmp_path)
    assert gallery.get("lobby", ["a"]) == [Item("a", "sha")]
    gallery.jobs.put_job(JOB)
    gallery.calibrations.put_calibration("lobby", CALIBRATED)
    assert gallery.jobs.job("a") == JOB
    gallery.close()


def test_a_full_disk_refuses_a_result_and_leaves_the_job_as_it_was(tmp_path: Path) -> None:
    gallery = LocalGallery(tmp_path, partial(Database, max_pages=40))
    gallery.jobs.put_job(JOB)
    with pytest.raises(StorageFailed, match="the disk is full"):
        gallery.jobs.put_job(replace(JOB, state="done", result={"worst": "x" * 400_000}))
    assert gallery.jobs.job("a") == JOB
    gallery.close()


def test_a_deleted_job_is_in_no_file_any_more(tmp_path: Path) -> None:
    gallery = LocalGallery(tmp_path)
    gallery.jobs.put_job(replace(JOB, params={"folder": "annas-pictures"}))
    gallery.jobs.delete_job("a")
    assert b"annas-pictures" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    gallery.close()


def test_a_calibration_that_comes_when_its_collection_has_just_gone_is_refused(tmp_path: Path) -> None:
    gallery = LocalGallery(tmp_path)
    gallery.put_collection(LOBBY)
    other = sqlite3.connect(
        tmp_path / FILE
    )  # the row goes behind the gallery's back, as between its check and its write
    other.execute("delete from collection")
    other.commit()
    other.close()
    with pytest.raises(UnknownCollection):
        gallery.calibrations.put_calibration("lobby", CALIBRATED)
    gallery.close()
