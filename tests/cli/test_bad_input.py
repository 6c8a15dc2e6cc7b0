"""Every row of the command-line table in docs/bad-input.md gets the status that the row promises, and one sentence."""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.adapters.local_gallery import LocalGallery
from app.cli.bench.crowd import Crowd, Size
from app.cli.bench.search import insert
from app.cli.main import run
from app.core.records import Collection
from app.demo.dataset import Recipe, draw_dataset

DOC = Path(__file__).parents[2] / "docs" / "bad-input.md"


def documented() -> dict[str, tuple[str, int]]:
    row = re.compile(r"^\| ([a-z0-9-]+) \| reid (\w+) \| .+ \| (\d+) \|$", re.MULTILINE)
    return {m[1]: (m[2], int(m[3])) for m in row.finditer(DOC.read_text(encoding="utf-8"))}


@dataclass(frozen=True)
class World:
    """Folders a case may use."""

    path: Path
    model: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def here(self) -> list[str]:
        return ["--model", str(self.model), "--data", str(self.path / "data")]

    def folder(self, **files: bytes) -> str:
        write(self.path / "folder", files)
        return str(self.path / "folder")


VECTOR = np.arange(1, 129, dtype="<f4").tobytes()  # as long as the tiny model's
JPEG = next(draw_dataset(Recipe(seed=1, persons=1, distractors=0, cameras=2))).jpeg


def crowded(w: World) -> str:
    insert(Crowd(Size(rows=20, dim=8)), w.path / "crowd")
    return str(w.path / "crowd")


def serve_busy(w: World) -> list[str]:
    store = LocalGallery(w.path / "data")
    KEPT.append(store)
    return ["serve", *w.here]


def search_one(w: World, *options: str) -> list[str]:
    return ["search", w.folder(hat__jpg=JPEG) + "/hat.jpg", "--collection", "c", *options, *w.here]


def features(w: World, **changed: np.ndarray | None) -> str:
    """A sound file of two persons, with some arrays changed or left out."""
    arrays: dict[str, np.ndarray | None] = {
        "query_vectors": np.ones((1, 2), np.float32), "query_pids": np.array([1]), "query_camids": np.array([1]),
        "gallery_vectors": np.eye(2, dtype=np.float32), "gallery_pids": np.array([1, 2]), "gallery_camids": np.array([2, 2]),
    }  # fmt: skip
    kept: dict[str, Any] = {name: array for name, array in (arrays | changed).items() if array is not None}
    np.savez(w.path / "features.npz", **kept)
    return str(w.path / "features.npz")


def labelled(w: World) -> str:
    """A collection with one labelled item."""
    folder = w.folder(**{"0001_c1_f1__jpg": JPEG})
    assert run(["index", folder, "--collection", "few", *w.here]) == 0
    return "few"


KEPT: list[LocalGallery] = []  # galleries that a case holds open until its test ends


def variant(w: World) -> list[str]:
    w.monkeypatch.setenv("REID_VARIANT", "onnx-int8")
    return ["serve", *w.here]


def setting(w: World) -> list[str]:
    w.monkeypatch.setenv("REID_PROT", "8001")
    return ["serve", *w.here]


def damaged(w: World) -> list[str]:
    broken = w.path / "model"
    shutil.copytree(w.model, broken)
    (broken / "model.onnx").write_bytes(b"x")
    return ["doctor", "--model", str(broken), "--data", str(w.path / "none")]


CASES: dict[str, Callable[[World], list[str]]] = {
    "serve-host": lambda w: ["serve", "--host", "0.0.0.0", *w.here],
    "serve-model": lambda w: ["serve", "--model", str(w.path / "nowhere"), "--data", str(w.path / "data")],
    "serve-busy": serve_busy,
    "serve-setting": setting,
    "serve-variant": variant,
    "index-folder": lambda w: ["index", str(w.path / "nowhere"), "--collection", "c", *w.here],
    "index-empty": lambda w: ["index", w.folder(readme__txt=b"x"), "--collection", "c", *w.here],
    "index-pattern": lambda w: ["index", w.folder(hat__jpg=JPEG), "--collection", "c", "--pattern", "duke", *w.here],
    "index-bad-picture": lambda w: ["index", w.folder(hat__jpg=JPEG, bad__png=b"no"), "--collection", "c", *w.here],
    "index-no-name": lambda w: ["index", w.folder(hat__jpg=JPEG), "--collection", "", *w.here],
    "index-question": lambda w: ["index", w.folder(hat__jpg=JPEG), "--collection", "a?b", *w.here],
    "index-address": lambda w: ["index", w.folder(hat__jpg=JPEG), "--collection", "c", "--url", "http://[::1"],
    "embed-bad-picture": lambda w: [
        "embed", w.folder(hat__jpg=JPEG, bad__png=b"no"), "--output", str(w.path / "o.npz"), "--model", str(w.model),
    ],
    "index-unreachable": lambda w: ["index", w.folder(hat__jpg=JPEG), "--collection", "c", "--url", "http://127.0.0.1:9"],
    "index-both": lambda w: ["index", w.folder(hat__jpg=JPEG), "--collection", "c", "--url", "http://127.0.0.1:9", "--data", "d"],
    "index-nothing": lambda w: ["index", "--collection", "c", *w.here],
    "index-two-sources": lambda w: [*results(w), w.folder(hat__jpg=JPEG)],
    "index-crops-alone": lambda w: ["index", w.folder(hat__jpg=JPEG), "--crops", ".", "--collection", "c", *w.here],
    "index-results-recursive": lambda w: [*results(w, a_0__bin=VECTOR), "--recursive"],
    "index-results-folder": lambda w: ["index", "--ais-bench", str(w.path / "nowhere"), "--collection", "c", *w.here],
    "index-results-none": lambda w: results(w, readme__txt=b"x", **{"0005_c2_f0046985__bin": bytes(393_216)}),
    "index-results-runs": lambda w: results(w, "run", "other", a_0__bin=VECTOR),
    "index-results-pattern": lambda w: [*results(w, a_0__bin=VECTOR), "--pattern", "duke"],
    "index-results-cut": lambda w: results(w, a_0__txt=b"1.0 " * 128 + b"\n", b_0__txt=b"1.0 " * 100),
    "index-results-length": lambda w: results(w, a_0__bin=VECTOR + VECTOR),
    "index-results-crops": lambda w: [*results(w, hat_0__bin=VECTOR), "--crops", w.folder(hat__jpg=JPEG)],
    "index-on-server": lambda w: ["index", w.folder(), "--collection", "c", "--on-server", *w.here],
    "persons-collection": lambda w: ["persons", "list", "--collection", "nowhere", *w.here],
    "persons-unknown": lambda w: ["persons", "rename", "5", "6", "--collection", labelled(w), *w.here],
    "persons-undo": lambda w: ["persons", "undo", "--collection", labelled(w), *w.here],
    "export-collection": lambda w: ["export", "nowhere", str(w.path / "out.tar"), *w.here],
    "import-missing": lambda w: ["import", str(w.path / "nowhere.tar"), "--collection", "c", *w.here],
    "import-no-archive": lambda w: ["import", w.folder(a__tar=b"no" * 999) + "/a.tar", "--collection", "c", *w.here],
    "reembed-no-crops": lambda w: ["reembed", labelled(w), "--into", "d", *w.here],
    "search-file": lambda w: ["search", str(w.path / "nowhere.jpg"), "--collection", "c", *w.here],
    "search-image": lambda w: index_then_search(w, b"no picture"),
    "search-collection": lambda w: ["search", w.folder(hat__jpg=JPEG) + "/hat.jpg", "--collection", "c", *w.here],
    "search-k": lambda w: ["search", w.folder(hat__jpg=JPEG) + "/hat.jpg", "--collection", "c", "-k", "0", *w.here],
    "search-fusion": lambda w: search_one(w, "--fusion", "best"),
    "search-by": lambda w: search_one(w, "--by", "camera"),
    "search-attribute": lambda w: search_one(w, "--attribute", "red"),
    "search-window": lambda w: search_one(w, "--captured-from", "2026-03-01"),
    "verify-file": lambda w: ["verify", str(w.path / "a.jpg"), str(w.path / "b.jpg"), *w.here],
    "verify-one": lambda w: ["verify", w.folder(hat__jpg=JPEG), *w.here],
    "verify-both": lambda w: ["verify", w.folder(hat__jpg=JPEG), "b.jpg", "--item-id", "x", "--collection", "c", *w.here],
    "verify-image": lambda w: ["verify", *[w.folder(hat__jpg=b"no")] * 2, *w.here],
    "verify-bad-one": lambda w: ["verify", *[w.folder(hat__jpg=JPEG, cap__jpg=b"no")] * 2, *w.here],
    "verify-empty": lambda w: ["verify", *[w.folder(notes__txt=b"x")] * 2, *w.here],
    "verify-item": lambda w: ["verify", w.folder(hat__jpg=JPEG), "--item-id", "x", *w.here],
    "evaluate-folder": lambda w: ["evaluate", str(w.path / "nowhere"), "--model", str(w.model)],
    "evaluate-splits": lambda w: ["evaluate", w.folder(hat__jpg=JPEG), "--model", str(w.model)],
    "evaluate-nothing": lambda w: ["evaluate"],
    "evaluate-two-sources": lambda w: ["evaluate", w.folder(hat__jpg=JPEG), "--ais-bench", "."],
    "evaluate-results-server": lambda w: ["evaluate", "--ais-bench", measured(w), "--url", "http://127.0.0.1:9"],
    "evaluate-variant": lambda w: ["evaluate", w.folder(), "--model", str(w.model), "--variant", "om-fp16"],
    "evaluate-batch-size": lambda w: ["evaluate", w.folder(), "--batch-size", "0"],
    "evaluate-protocol": lambda w: ["evaluate", "--features", features(w), "--protocol", "centroids"],
    "evaluate-features-missing": lambda w: ["evaluate", "--features", str(w.path / "nowhere.npz")],
    "evaluate-features-no-arrays": lambda w: ["evaluate", "--features", w.folder(x__npz=b"PK no") + "/x.npz"],
    "evaluate-features-one-missing": lambda w: ["evaluate", "--features", features(w, gallery_camids=None)],
    "evaluate-features-lengths": lambda w: ["evaluate", "--features", features(w, gallery_pids=np.array([1]))],
    "evaluate-features-nan": lambda w: ["evaluate", "--features", features(w, query_vectors=np.full((1, 2), np.nan))],
    "evaluate-features-zero": lambda w: ["evaluate", "--features", features(w, gallery_vectors=np.zeros((2, 2)))],
    "evaluate-features-length": lambda w: ["evaluate", "--features", features(w, gallery_vectors=np.full((2, 2), 3e38))],
    "evaluate-features-kinds": lambda w: ["evaluate", "--features", features(w, query_pids=np.array([0.5]))],
    "evaluate-features-dims": lambda w: ["evaluate", "--features", features(w, query_vectors=np.ones((1, 3)))],
    "evaluate-features-model": lambda w: ["evaluate", "--features", features(w), "--model", str(w.model)],
    "evaluate-results-splits": lambda w: ["evaluate", "--ais-bench", w.folder(a_0__bin=VECTOR)],
    "evaluate-results-empty": lambda w: ["evaluate", "--ais-bench", measured(w)],
    "evaluate-results-names": lambda w: ["evaluate", "--ais-bench", measured(w, hat_0__bin=VECTOR)],
    "evaluate-results-broken": lambda w: ["evaluate", "--ais-bench", measured(w, **{"0001_c1_f1_0__bin": b"x"})],
    "calibrate-collection": lambda w: ["calibrate", "--collection", "nowhere", *w.here],
    "calibrate-labels": lambda w: ["calibrate", "--collection", labelled(w), *w.here],
    "calibrate-rate": lambda w: ["calibrate", "--collection", labelled(w), "--fpir", "0.5", *w.here],
    "bench-gallery": lambda w: [
        "bench", "evaluate", "--gallery", "7", "--persons", "5", "--distractors", "3"
    ],
    "bench-search-dir": lambda w: ["bench", "search", "--rows", "40", "--dim", "8", "--dir", crowded(w)],
    "embed-folder": lambda w: ["embed", w.folder(readme__txt=b"x"), "--output", str(w.path / "o.npz"), "--model", str(w.model)],
    "embed-output": lambda w: [
        "embed", w.folder(hat__jpg=JPEG), "--output", str(w.path / "nowhere" / "o.npz"), "--model", str(w.model),
    ],
    "preprocess-collision": lambda w: ["preprocess", w.folder(a__b__jpg=JPEG, a__c__jpg=JPEG), str(w.path / "bins")],
    "preprocess-image": lambda w: ["preprocess", w.folder(a__jpg=JPEG, b__jpg=b"no"), str(w.path / "bins")],
    "demo-port": lambda w: ["demo", str(w.path / "demo"), "--port", "70000"],
    "doctor-model": damaged,
    "backup-nowhere": lambda w: ["backup", "--data", str(w.path / "nowhere")],
    "backup-both": lambda w: ["backup", "--list", "--delete", "x", *gallery(w)],
    "backup-delete": lambda w: ["backup", "--delete", "never", *gallery(w)],
    "restore-folder": lambda w: ["restore", w.folder(), "--ignore-erasures", "--data", str(w.path / "new")],
    "restore-no-log": lambda w: ["restore", snapshot(w, log=False), "--data", str(w.path / "new")],
    "restore-full": lambda w: ["restore", snapshot(w), "--data", str(w.path / "data")],
    "restore-as": lambda w: ["restore", "x", "--collection", "c", *gallery(w)],
    "restore-url": lambda w: ["restore", "x", "--url", "http://127.0.0.1:9"],
    "erase-nothing": lambda w: ["erase", "--collection", "c", "--yes", *gallery(w)],
    "erase-unasked": lambda w: ["erase", "--collection", "c", "--all", *gallery(w)],
    "erase-collection": lambda w: ["erase", "--collection", "never", "--all", "--yes", *gallery(w)],
    "check-nowhere": lambda w: ["check", "--data", str(w.path / "nowhere")],
    "check-damaged": lambda w: ["check", "--data", str(Path(w.folder(gallery__sqlite3=b"no database")))],
    "audit-half": lambda w: ["audit", "verify", "--seq", "1", *gallery(w)],
    "audit-line": lambda w: ["audit", "verify", "--seq", "1", "--hash", "0" * 64, *gallery(w)],
}  # fmt: skip


def gallery(w: World) -> list[str]:
    """A data directory with an empty collection."""
    store = LocalGallery(w.path / "data")
    store.put_collection(Collection("c", "print-1", 2, keep_crops=False, created_at=datetime(2026, 1, 2, tzinfo=UTC)))
    store.close()
    return ["--data", str(w.path / "data")]


def snapshot(w: World, log: bool = True) -> str:
    """The folder of a snapshot of it."""
    assert run(["backup", *gallery(w)]) == 0
    (folder,) = (w.path / "data-snapshots").glob("2*")
    if not log:
        (w.path / "data-snapshots" / "erasures.jsonl").unlink()
    return str(folder)


def results(w: World, *runs: str, **files: bytes) -> list[str]:
    """`reid index` of results, which lie in each of the runs."""
    folder = w.path / "results"
    for name in runs or ("",):
        write(folder / name, files)
    return ["index", "--ais-bench", str(folder), "--collection", "c", *w.here]


def measured(w: World, **files: bytes) -> str:
    """A folder with the same results as queries and in the gallery."""
    for name in ("query", "gallery"):
        write(w.path / "measured" / name, files)
    return str(w.path / "measured")


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)


def index_then_search(w: World, data: bytes) -> list[str]:
    folder = w.folder(hat__jpg=JPEG, bad__png=data)
    assert run(["index", folder, "--collection", "c", *w.here]) == 1  # one refused, the other added
    return ["search", folder + "/bad.png", "--collection", "c", *w.here]


def test_every_row_of_the_page_has_a_case_and_every_case_a_row() -> None:
    assert set(documented()) == set(CASES)


@pytest.mark.parametrize("case", sorted(CASES))
def test_bad_input_gets_what_the_page_says(
    case: str,
    tiny_model_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = CASES[case](World(tmp_path, tiny_model_directory, monkeypatch))
    capsys.readouterr()
    try:
        status = run(arguments)
    finally:
        while KEPT:
            KEPT.pop().close()
    command, expected = documented()[case]
    printed = capsys.readouterr()
    said = printed.err + (printed.out if command == "doctor" else "")
    assert arguments[0] == command
    assert status == expected, said
    assert said.strip()
    assert "Traceback" not in said
    if case == "preprocess-collision":
        assert not (tmp_path / "bins").exists()
    if case == "preprocess-image":
        assert [path.name for path in (tmp_path / "bins").iterdir()] == ["a.bin"]
