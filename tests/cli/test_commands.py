"""The commands on a small drawn folder, in this process and against a server."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.adapters.model_directory import ModelDirectory
from app.adapters.onnx import OnnxEmbedder
from app.cli.main import run
from app.core.manifest import ONNX_FP32
from app.core.preprocess import decode, normalise
from app.demo.dataset import Recipe, write_folder
from tests.server import Server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_folder(Recipe(seed=4, persons=5, distractors=2, cameras=3), folder)
    return folder


@pytest.fixture
def here(tiny_model_directory: Path, tmp_path: Path) -> list[str]:
    return ["--model", str(tiny_model_directory), "--data", str(tmp_path / "data")]


def read(path: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return answer


def test_index_then_search_then_index_again(drawn: Path, here: list[str], tmp_path: Path) -> None:
    gallery, answer = drawn / "bounding_box_test", tmp_path / "answer.json"
    count = len(list(gallery.iterdir()))
    for expected in ({"added": count, "unchanged": 0}, {"added": 0, "unchanged": count}):
        assert run(["index", str(gallery), "--collection", "set", "--json", str(answer), *here]) == 0
        assert expected.items() <= read(answer)["results"].items()
    crop = sorted(gallery.iterdir())[3]
    assert run(["search", str(crop), "--collection", "set", "-k", "2", "--json", str(answer), *here]) == 0
    (result,) = read(answer)["results"]
    assert result["matches"][0]["source"] == crop.name
    assert result["matches"][0]["person_id"] == crop.name[:4]


def test_crops_of_one_person_are_searched_for_together_and_verified(
    drawn: Path, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, answer = drawn / "bounding_box_test", tmp_path / "answer.json"
    assert run(["index", str(gallery), "--collection", "set", *here]) == 0
    crops = sorted(gallery.iterdir())[:2]
    asked = ["search", *map(str, crops), "--collection", "set", "--together", "--by", "person", "--fusion", "best"]
    more = ["--rerank", "--person-score", "best", "-k", "2", "--exclude", "nobody"]
    assert run([*asked, *more, "--json", str(answer), *here]) == 0
    (result,) = read(answer)["results"]
    assert result["images"] == [crop.name for crop in crops]
    assert crops[0].name[:4] in [person["person_id"] for person in result["persons"]]
    assert (len(result["persons"]), result["refused"]) == (2, [])
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    capsys.readouterr()
    assert run([*asked, str(tmp_path / "bad.jpg"), *here]) == 1  # said, and the others answer
    said = capsys.readouterr()
    assert "bad.jpg" in said.err
    assert crops[0].name[:4] in said.out
    assert run(["verify", str(crops[0]), str(crops[0]), "--json", str(answer), *here]) == 0
    assert read(answer)["score"] == pytest.approx(1, abs=1e-6)
    pair = tmp_path / "pair"
    pair.mkdir()
    for crop in crops:
        (pair / crop.name).write_bytes(crop.read_bytes())
    assert run(["verify", str(pair), str(crops[0]), *here[:2]]) == 0
    assert re.search(r"score 0\.\d{3}\ndecision: none\n", capsys.readouterr().out)


def test_a_calibrated_collection_answers_with_decisions_at_the_rate_asked_for(
    here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(Recipe(seed=5, persons=60, distractors=0, cameras=2, seen_by=1.0), tmp_path / "set")
    gallery, answer = tmp_path / "set" / "bounding_box_test", tmp_path / "answer.json"
    crop = str(sorted(gallery.iterdir())[0])
    one = ["search", crop, "--collection", "set", "-k", "1", *here]
    assert run(["index", str(gallery), "--collection", "set", *here]) == 0
    capsys.readouterr()
    assert run(one) == 0
    said = capsys.readouterr()
    assert "probability" not in said.out
    assert "not calibrated" in " ".join(said.err.split())
    assert run(["calibrate", "--collection", "set", *here]) == 0
    capsys.readouterr()
    for more in ([], ["--together"], ["--by", "person"]):
        assert run([*one, *more]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"probability .*\n.* \d+\.\d% .*\ndecision: (match|unsure|unknown)\n", shown)
        assert run([*one, *more, "--fpir", "0.001", "--json", str(answer)]) == 0  # 120 crops do not tell this rate
        (result,) = read(answer)["results"]
        assert "decision" not in result
        assert result["decision_reason"].startswith("cannot be told: 120 searches")
    verify = ["verify", crop, crop, "--collection", "set", *here]
    assert run([*verify, "--json", str(answer)]) == 0
    assert read(answer)["decision"] == "match"
    assert run([*verify, "--fpir", "0.001", "--json", str(answer)]) == 0
    assert read(answer)["decision"] is None
    assert run([*verify, "--fpir", "0.5"]) == 1


def test_crops_without_labels_are_indexed_as_they_are(drawn: Path, here: list[str], tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "deeper").mkdir(parents=True)
    for number, crop in enumerate(sorted((drawn / "query").iterdir())[:3]):
        (own / ("deeper" if number else ".") / f"door-{number}.jpg").write_bytes(crop.read_bytes())
    answer = tmp_path / "answer.json"
    assert run(["index", str(own), "--collection", "own", "--recursive", "--json", str(answer), *here]) == 0
    summary = read(answer)
    assert (summary["labelled"], summary["unlabelled"]) == (0, 3)
    assert summary["results"]["added"] == 3


def test_evaluate_writes_the_words_of_the_api(
    drawn: Path, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = tmp_path / "answer.json"
    assert run(["evaluate", str(drawn), "--json", str(answer), *here[:2]]) == 0
    report = read(answer)["protocols"]["instance"]
    assert 0 <= report["mAP"] <= 1
    assert f"{report['mAP'] * 100:.1f}" in capsys.readouterr().out
    assert run(["evaluate", str(drawn), "--json", "-", *here[:2]]) == 0
    assert json.loads(capsys.readouterr().out)["protocols"]["instance"] == report
    assert not (tmp_path / "data").exists(), "evaluating needs no data directory"


def test_embed_writes_raw_vectors_in_the_order_of_the_names(drawn: Path, here: list[str], tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "vectors.npz"
    folder.mkdir()
    for name, crop in zip(("b.jpg", "a.jpg"), sorted((drawn / "query").iterdir()), strict=False):
        (folder / name).write_bytes(crop.read_bytes())
    (folder / "c.jpg").write_bytes(b"broken")
    assert run(["embed", str(folder), "--output", str(output), *here[:2]]) == 1  # one was refused, the others are there
    with np.load(output, allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == ["a.jpg", "b.jpg"]
        assert arrays["vectors"].dtype == np.float32
        crops = np.stack([decode((folder / name).read_bytes(), name) for name in ("a.jpg", "b.jpg")])
        directory = ModelDirectory.open(Path(here[1]))
        expected = OnnxEmbedder(directory.artefact(ONNX_FP32), "x", directory.manifest.dim, threads=1).embed(crops)
        np.testing.assert_allclose(arrays["vectors"], expected, rtol=1e-4, atol=1e-4)
    assert [path.name for path in tmp_path.glob("*.partial")] == []


def test_preprocess_writes_the_guides_bin_files(drawn: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "bins"
    source.mkdir()
    data = sorted((drawn / "query").iterdir())[0].read_bytes()
    (source / "0005_c2_f1.v2.jpg").write_bytes(data)
    (source / "Thumbs.db").write_bytes(b"x")
    assert run(["preprocess", str(source), str(target)]) == 0
    (made,) = target.iterdir()
    assert made.name == "0005_c2_f1.bin"  # up to the first dot
    assert made.stat().st_size == 393_216
    expected = normalise(decode(data, "x")[None])[0]
    assert np.array_equal(np.fromfile(made, dtype="<f4").reshape(3, 256, 128), expected)


def test_doctor_finds_a_sound_installation_sound(here: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", *here]) == 0
    said = capsys.readouterr().out
    assert "golden cosine 1.000000" in said or "golden cosine 0.99999" in said
    assert "FAIL" not in said


@pytest.fixture
def server(serve: Callable[..., Server], here: list[str]) -> Server:
    return serve(*here)


def test_the_same_commands_against_a_server(
    server: Server, drawn: Path, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, answer = drawn / "bounding_box_test", tmp_path / "answer.json"
    url = ["--url", server.url]
    deadline = time.monotonic() + 20
    while run(["index", str(gallery), "--collection", "set", *url]) != 0:  # 503 until the warm-up is done
        assert time.monotonic() < deadline
    crop = sorted(gallery.iterdir())[0]
    assert run(["search", str(crop), "--collection", "set", "--json", str(answer), *url]) == 0
    (result,) = read(answer)["results"]
    assert result["matches"][0]["source"] == crop.name
    capsys.readouterr()
    assert run(["search", str(crop), "--collection", "set", *here]) == 1
    said = capsys.readouterr().err
    assert f"in use by process {server.process.pid}" in said
    assert "--url" in said
    assert run(["evaluate", str(drawn), *url]) == 1  # no roots are set
    assert "REID_DATA_ROOTS" in capsys.readouterr().err
    assert server.stop(signal.SIGTERM) == 0


def test_ctrl_c_ends_the_server_after_the_gallery_is_closed(server: Server, here: list[str]) -> None:
    assert server.stop(signal.SIGINT) == 130
    # SQLite removes its log when the last connection is closed in order, and only then.
    assert not (Path(here[3]) / "gallery.sqlite3-wal").exists()


def test_labels_are_shown_as_they_are(
    drawn: Path, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "[b]-1.jpg").write_bytes(next((drawn / "query").iterdir()).read_bytes())
    pattern = r"(?P<person>\[b\])-(?P<camera>\d)"
    assert run(["index", str(own), "--collection", "own", "--pattern", pattern, *here]) == 0
    assert run(["search", str(own / "[b]-1.jpg"), "--collection", "own", *here]) == 0
    assert "[b]" in capsys.readouterr().out


def test_ctrl_c_during_index_keeps_what_was_acknowledged(here: list[str], tmp_path: Path, drawn: Path) -> None:
    crops = [crop.read_bytes() for crop in sorted((drawn / "bounding_box_test").iterdir())]
    many = tmp_path / "many"
    many.mkdir()
    for number in range(1500):  # the bytes behind the picture make each another content
        (many / f"{number:05d}.jpg").write_bytes(crops[number % len(crops)] + number.to_bytes(4, "big"))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "app", "index", str(many), "--collection", "many", *here]
    # A shell's background job ignores Ctrl-C, and so would what it starts.
    command = ["env", "--default-signal=INT", *command]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    database = Path(here[3]) / "gallery.sqlite3-wal"
    deadline = time.monotonic() + 60
    while not (database.exists() and database.stat().st_size > 200_000):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    told = re.search(r"stopped: (\d+) of 1500 crops were acknowledged and stay", said)
    assert told, said
    answer = tmp_path / "answer.json"
    assert run(["index", str(many), "--collection", "many", "--json", str(answer), *here]) == 0
    results = read(answer)["results"]
    assert results["unchanged"] >= int(told[1]) > 0
    assert results["added"] + results["unchanged"] == 1500
