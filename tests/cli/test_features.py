"""`reid evaluate --features`: six arrays in, every protocol out; no model, no server, no data directory."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.cli.features import read_features
from app.cli.main import run
from app.core.metrics import Labelled
from app.core.protocols import PROTOCOLS, evaluate
from tests.core.test_protocols import cases, random_case, shown, slow

KEYS = {
    "mAP",
    "mINP",
    "rank1",
    "rank5",
    "rank10",
    "rank20",
    "rank50",
    "valid_queries",
    "queries",
    "gallery",
    "interval95",
}


def save(path: Path, **changed: Any) -> str:
    """Person 7 from camera 1, whose other crop is behind person 9's; as raw vectors of odd lengths."""
    arrays = {
        "query_vectors": np.array([[2, 0]], dtype=np.float32),
        "query_pids": np.array([7]),
        "query_camids": np.array([1]),
        "gallery_vectors": np.array([[30, 0], [5, 1], [1, 1]], dtype=np.float32),
        "gallery_pids": np.array([7, 9, 7]),
        "gallery_camids": np.array([1, 2, 3]),
    }
    np.savez(path, **(arrays | changed))
    return str(path)


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["evaluate", *arguments, "--json", "-"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_every_protocol_is_printed_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = report(capsys, "--features", save(tmp_path / "f.npz"))
    assert list(answer["protocols"]) == list(PROTOCOLS)
    assert all(set(figures) >= KEYS for figures in answer["protocols"].values())
    assert set(answer) >= {"protocols", "data", "model"}
    assert answer["protocols"]["instance"]["mAP"] == 0.5
    assert answer["protocols"]["centroid"]["mAP"] == 1.0  # of person 9 there is no query, and so no centroid
    # The mean of the raw vectors (30, 0) and (1, 1) lies nearer than (5, 1); that of unit vectors would not.
    assert answer["protocols"]["centroid_any_camera"]["mAP"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]  # no data directory was made


def test_junk_does_not_count_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save(tmp_path / "f.npz", gallery_pids=np.array([7, -1, 7]))
    answer = report(capsys, "--features", file)
    assert answer["protocols"]["instance"]["mAP"] == 1.0
    assert (answer["data"]["gallery"]["used"], answer["data"]["gallery"]["junk"]) == (2, 1)


def test_without_a_valid_query_there_are_nulls_and_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = report(capsys, "--features", save(tmp_path / "f.npz", query_pids=np.array([8])))
    instance = answer["protocols"]["instance"]
    assert (instance["mAP"], instance["rank1"], instance["interval95"]) == (None, None, None)
    assert instance["reason"] == "no query has a row of its person that counts"


def test_float64_vectors_and_small_integers_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save(
        tmp_path / "f.npz", query_vectors=np.array([[2.0, 0.0]]), gallery_camids=np.array([1, 2, 3], dtype=np.int8)
    )
    assert report(capsys, "--features", file)["protocols"]["instance"]["mAP"] == 0.5


def test_the_table_says_what_depends_on_the_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--features", save(tmp_path / "f.npz"), "--protocol", "centroid_published"]) == 0
    printed = capsys.readouterr().out
    assert "centroid_published: depends on the order of the rows" in printed
    assert "…" not in printed


@cases
def test_with_junk_on_both_sides_every_protocol_equals_the_slow_implementation_without_it(
    seed: int, queries: int, gallery: int, persons: int, cameras: int
) -> None:
    rng, clean = np.random.default_rng(seed), []
    arrays: dict[str, Any] = {}
    for side, rows in zip(("query", "gallery"), random_case(seed, queries, gallery, persons, cameras), strict=True):
        junk = rng.random(len(rows.pids)) < 0.2
        clean.append(Labelled(rows.vectors[~junk], rows.pids[~junk], rows.camids[~junk]))
        arrays |= {f"{side}_vectors": rows.vectors, f"{side}_camids": rows.camids}
        arrays |= {f"{side}_pids": np.where(junk, -1, rows.pids)}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "f.npz", **arrays)
        sides, *_ = read_features(Path(folder) / "f.npz")
    for name, result in evaluate(sides.query, sides.gallery, shuffles=0).items():
        assert shown(result.report) == pytest.approx(slow(clean[0], clean[1], name), abs=1e-9)
