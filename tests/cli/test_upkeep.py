"""Backup, erase, restore, check and audit on a data directory, and against a server."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.cli.main import run
from app.core.records import Collection, Item
from tests.server import Server

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with three items, two of Anna."""
    with closing(LocalGallery(tmp_path / "data")) as gallery:
        gallery.put_collection(Collection("lobby", "print-1", 2, keep_crops=False, created_at=NOON))
        people = {"i1": "anna", "i2": "anna", "i3": "bert"}
        items = [Item(name, "0" * 64, person) for name, person in people.items()]
        gallery.upsert("lobby", items, np.array([[1, 0], [3, 4], [0, 2]], dtype=np.float32))
    return tmp_path / "data"


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Any]:
    """Runs a command that must succeed, and returns its answer."""

    def run_it(*arguments: str) -> Any:
        assert run([*arguments, "--json", str(tmp_path / "answer.json")]) == 0
        return json.loads((tmp_path / "answer.json").read_text())

    return run_it


def test_what_is_erased_stays_away_when_a_backup_is_restored(
    data: Path, tmp_path: Path, ask: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--data", str(data)]
    snapshot = ask("backup", *here)
    assert ask("backup", "--list", *here)["snapshots"] == [snapshot]
    receipt = ask("erase", "--collection", "lobby", "--persons", "anna", "--yes", *here)
    assert (receipt["items"], receipt["snapshots"]) == (2, [snapshot["id"]])
    line = receipt["audit"]
    assert ask("audit", "verify", "--seq", str(line["seq"]), "--hash", line["hash"], *here) == line
    restored = ask("restore", snapshot["path"], "--data", str(tmp_path / "again"))
    assert (restored["items"], restored["erased"]) == (1, 2)
    assert ask("check", "--data", str(tmp_path / "again"))["ok"]
    told = ask("audit", "show", "--collection", "lobby", "--person", "anna", "--data", str(tmp_path / "again"))
    assert [one["action"] for one in told["lines"]] == ["add", "erase"]
    capsys.readouterr()
    assert run(["audit", "show", *here]) == 0
    assert "erase" in capsys.readouterr().out


def test_a_collection_is_restored_beside_the_others(data: Path, ask: Callable[..., Any]) -> None:
    here = ["--data", str(data)]
    snapshot = ask("backup", *here)
    assert ask("restore", snapshot["id"], "--collection", "lobby", "--as", "then", *here)["items"] == 3
    with closing(LocalGallery(data)) as gallery:
        assert [collection.name for collection in gallery.collections()] == ["lobby", "then"]


def test_a_check_of_a_damaged_gallery_says_what_is_wrong_and_fails(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sqlite3

    with closing(sqlite3.connect(data / "gallery.sqlite3", isolation_level=None)) as db:
        db.execute("update slot set size = 3, bytes = x'010203' where id = 1")
    assert run(["check", "--data", str(data)]) == 1
    printed = capsys.readouterr()
    assert "item 1: its vector has 3 bytes, not 8" in printed.out
    assert "cannot be searched" in printed.err


def test_what_is_printed_tells_what_was_done(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ["--data", str(data)]
    assert run(["backup", *here]) == 0
    assert "lobby 3" in capsys.readouterr().out
    assert run(["erase", "--collection", "lobby", "--ids", "i1", "--yes", *here]) == 0
    assert "lobby: 1 items erased" in capsys.readouterr().out
    (folder,) = (tmp_path / "data-snapshots").glob("2*")
    assert run(["restore", str(folder), "--data", str(tmp_path / "again")]) == 0
    assert "2 items restored; 1 that were erased since are left out" in capsys.readouterr().out
    assert run(["backup", "--delete", folder.name, *here]) == 0
    assert not folder.exists()


def test_a_server_does_the_same(
    data: Path, serve: Callable[..., Server], tiny_model_directory: Path, ask: Callable[..., Any], tmp_path: Path
) -> None:
    server = serve("--model", str(tiny_model_directory), "--data", str(data))
    there = ["--url", server.url]
    snapshot = ask("backup", *there)
    receipt = ask("erase", "--collection", "lobby", "--persons", "anna", "--yes", *there)
    assert (receipt["items"], receipt["snapshots"]) == (2, [snapshot["id"]])
    assert ask("restore", snapshot["id"], "--collection", "lobby", "--as", "then", *there)["items"] == 1
    assert ask("check", *there)["ok"]
    assert ask("audit", "verify", *there)["seq"] == 4  # add, erase, and of the restore add and restore
    assert run(["check", "--data", str(data)]) == 1  # the server has it
