"""`reid bench search`: the crowd is what it says it is, true answers are true, and the figures are of the real path."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.cli.bench.crowd import PIECE, Crowd, Nearest, Size, asks
from app.cli.bench.search import insert, sentences, show
from app.cli.main import run
from app.core.metrics import Floats

TINY = Size(rows=3000, queries=6, dim=32, cameras=4, seed=7)


def whole(crowd: Crowd) -> Floats:
    raw = np.concatenate([vectors for _, vectors in crowd.pieces()])
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


def test_a_crowd_is_the_same_each_time_and_its_persons_look_like_themselves() -> None:
    crowd = Crowd(TINY)
    units = whole(crowd)
    assert units.shape == (3000, 32)
    assert [start for start, _ in crowd.pieces()] == [0, PIECE, 2 * PIECE]
    assert (units == whole(Crowd(TINY))).all()
    # 3000 // 16 = 187 persons: rows 0, 187 and 374 are of the first. Variances 1, 0.36 and 0.25, of which crops of one
    # person share the first: 1 / 1.61 = 0.62.
    same = (units[:187] * units[187:374]).sum(axis=1)
    assert same.mean() == pytest.approx(0.62, abs=0.05)
    assert abs((units[:186] * units[1:187]).sum(axis=1).mean()) < 0.05


def test_items_say_whose_they_are_and_go_round_the_cameras() -> None:
    items = Crowd(TINY).items(187, 188)
    assert [(item.id, item.person_id, item.camera_id) for item in (items[0], items[187])] == [
        ("187", "0", "1"),
        ("374", "0", "2"),
    ]


def test_the_true_answers_are_those_of_one_product_over_everything() -> None:
    crowd = Crowd(TINY)
    queries, cameras = crowd.queries()
    kinds = asks(crowd, cameras)
    nearest = Nearest(queries, 3, kinds)
    for start, vectors in crowd.pieces():
        nearest.see(start, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    scores, items = whole(crowd) @ queries.T, crowd.items(0, 3000)
    for ask in kinds:
        for query in range(6):
            counts = [ask.where(query).accepts(item) for item in items]
            order = sorted(np.flatnonzero(counts).tolist(), key=lambda row: -scores[row, query])
            assert nearest.recall(ask.name, query, [str(row) for row in order[:3]]) == 1
            assert nearest.recall(ask.name, query, [str(row) for row in order[1:4]]) == pytest.approx(2 / 3)
    accepted = [sum(kinds[2].where(query).accepts(item) for item in items) for query in range(6)]
    assert accepted == [3] * 6  # one in a thousand


def test_the_command_fills_a_gallery_searches_it_and_uses_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--rows", "5200", "--queries", "4", "--dim", "32", "--dir", str(tmp_path / "data")]
    assert run(["bench", "search", *small, "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["searches"]) == {"all", "not the query's camera", "one in a thousand"}
    assert answer["searches"]["all"]["recall_at_10"] >= 0.9
    # One in a thousand are five rows, which are scored exactly.
    assert answer["searches"]["one in a thousand"]["recall_at_10"] == 1
    assert (answer["start"]["index"]["kind"], answer["start"]["index"]["items"]) == ("codes", 5200)
    assert answer["rebuild"]["index"] == answer["start"]["index"] | {"coded": 5200} | {
        "bytes": answer["rebuild"]["index"]["bytes"]
    }
    assert answer["flat"]["rows_scanned"] == 5200
    assert answer["insert"]["items_per_write"] == PIECE
    crowd = Crowd(Size(rows=5200, queries=4, dim=32))
    assert insert(crowd, tmp_path / "data") is None
    show(answer | {"insert": None})
    printed = capsys.readouterr().out
    assert "not the query's camera" in printed
    assert "inserting: the gallery was there already" in printed


def test_a_scan_of_a_part_is_said_to_be_one() -> None:
    answer = {
        "size": {"rows": 1000, "dim": 8, "seed": 0, "queries": 1},
        "flat": {"p50_ms": 2.0, "rows_scanned": 500, "threads": 1},
        "insert": None,
        "start": {
            "ready_s": 1.0,
            "resident_bytes": 2e6,
            "index": {"bytes": 1e6, "kind": "codes", "coded": 1000},
        },
        "rebuild": {"ready_s": 3.0, "peak_bytes": 4e6},
        "machine": {"processor": "x", "cores": 2},
    }
    assert sentences(answer)[0] == "a plain scan by FAISS: 2.0 ms, extrapolated from 500 rows"
