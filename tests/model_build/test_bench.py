"""The guide's table: its arithmetic on the guide's own figures, its forms, and the accuracy that belongs to a line."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from app.adapters.memory import MemoryEmbedder
from app.adapters.model_directory import ModelDirectory
from app.api.evaluation import EvaluateAnswer
from app.api.examples import EXAMPLES
from app.core.manifest import ONNX_FP32
from app.errors import BadField
from app.ports import Crops, Floats, RunTimes
from model_build.bench import Accuracy, Line, Target, as_json, best, markdown, read_report, run, table

CROPS = np.zeros((8, 256, 128, 3), dtype=np.uint8)
# The guide's closing table for Ascend310P3: images a second by batch size.
GUIDE = {1: 1542, 4: 3715, 8: 4287, 16: 3454, 32: 3571, 64: 2231}


class Timed(MemoryEmbedder):
    """Runs for the guide's time by its own clock, copies for half a millisecond, and is served in 2 ms more."""

    def __init__(self, size: int) -> None:
        self.size, self.now_s, self.runs = size, 0.0, 0

    def embed(self, crops: Crops) -> Floats:
        assert len(crops) == self.size
        execute_ms = 1000 * self.size / GUIDE[self.size]
        self.last_run = RunTimes(execute_ms, execute_ms + 0.5)
        self.now_s += (execute_ms + 2.5) / 1000
        self.runs += 1
        return super().embed(crops)


def measured(loop: int = 10, seconds: float = 60.0) -> list[Line]:
    lines: list[Line] = []
    for size in GUIDE:
        embedder = Timed(size)
        target = Target("ascend:0", "Ascend310P3", "om-fp16", (size,), lambda size, e=embedder: e)  # type: ignore[misc]
        lines += run(target, CROPS, loop, seconds, clock=lambda e=embedder: e.now_s)  # type: ignore[misc]
    return lines


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return measured()


def test_the_rate_is_computed_as_ais_bench_computes_it(lines: list[Line]) -> None:
    assert [round(line.per_s(line.execute_ms)) for line in lines] == list(GUIDE.values())
    assert [line.runs for line in lines] == [10] * 6


def test_copies_and_serving_are_told_beside_it(lines: list[Line]) -> None:
    eight = lines[2]
    assert eight.copied_ms == pytest.approx(8000 / 4287 + 0.5)
    assert eight.served_ms == pytest.approx(8000 / 4287 + 2.5)


def test_the_best_size_is_the_guides(lines: list[Line]) -> None:
    assert best(lines) == {("ascend:0", "om-fp16"): 8}
    assert [row[-1] for row in table(lines)] == ["", "", "best", "", "", ""]


def test_a_size_runs_no_longer_than_told() -> None:
    # A run at batch 64 takes 28.7 + 2.5 ms: four begin within 0.1 s.
    assert measured(loop=100, seconds=0.1)[-1].runs == 4


def test_markdown_is_a_table_with_a_row_for_each_size(lines: list[Line]) -> None:
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in markdown(lines).splitlines()]
    assert {len(row) for row in rows} == {10}
    assert rows[0][:3] == ["chip", "variant", "batch size"]
    assert rows[4] == ["Ascend310P3", "om-fp16", "8", "-", "-", "4287", "1.87", "3381", "1832", "best"]


def test_json_has_times_and_rates(lines: list[Line]) -> None:
    told = json.loads(json.dumps(as_json(lines)))
    assert told["best"] == [{"device": "ascend:0", "variant": "om-fp16", "batch_size": 8}]
    assert told["lines"][0]["images_per_s"] == pytest.approx(1542)


def test_an_embedder_that_tells_no_times_is_not_measured() -> None:
    target = Target("cpu", "x86_64", "onnx-fp32", (1,), lambda size: MemoryEmbedder())
    with pytest.raises(RuntimeError, match="does not tell its times"):
        list(run(target, CROPS, 1, 1.0))


def report(
    directory: ModelDirectory, tmp_path: Path, data: Mapping[str, object] | None = None, **model: object
) -> Path:
    """What `reid evaluate --json` writes, by the API's own example: rank-1 of 0.92, and others by other protocols."""
    fingerprint = directory.manifest.variants[ONNX_FP32].fingerprint
    named = {"fingerprint": fingerprint, "variant": ONNX_FP32, "batch_size": 4, "label": "x", **model}
    answer = {**EXAMPLES[EvaluateAnswer], "model": named}
    answer["data"] = answer["data"] | dict(data or {"folder": "duke"})
    (instance,) = answer["protocols"].values()
    others = {"centroid": 0.93, "centroid_published": 0.9375, "centroid_modelzoo": None}
    # A new dict: the example is everybody's.
    answer["protocols"] = answer["protocols"] | {name: instance | {"rank1": rank1} for name, rank1 in others.items()}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(answer), encoding="utf-8")
    return path


def test_an_evaluation_fills_the_accuracy_of_its_own_line_only(tiny_model_directory: Path, tmp_path: Path) -> None:
    directory = ModelDirectory.open(tiny_model_directory)
    accuracy = read_report(report(directory, tmp_path), directory)
    rank1 = {"instance": 0.92, "centroid": 0.93, "centroid_published": 0.9375, "centroid_modelzoo": None}
    assert accuracy == Accuracy(accuracy.fingerprint, ONNX_FP32, 4, "duke", rank1)

    def opened(size: int) -> Timed:
        return Timed(size)

    target = Target("cpu", "x86_64", ONNX_FP32, (1, 4), opened)
    rows = table(list(run(target, CROPS, 1, 1.0, [accuracy])))
    # The field's own protocol, and those that the guide's figure may be of; the JSON has all.
    assert [row[3:5] for row in rows] == [("-", "-"), ("duke", "instance 92.0%, centroid_published 93.8%")]


def test_an_evaluation_of_a_collection_is_told_by_its_name(tiny_model_directory: Path, tmp_path: Path) -> None:
    directory = ModelDirectory.open(tiny_model_directory)
    of_a_collection = report(directory, tmp_path, {"folder": None, "collection": "lobby"})
    assert read_report(of_a_collection, directory).data == "lobby"


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"fingerprint": "onnx-fp32-0000000000000000"}, "none of this directory's"),
        ({"variant": "om-fp16"}, "none of this directory's"),
        ({"batch_size": None}, "give `reid evaluate` a --batch-size"),
    ],
)
def test_a_report_of_something_else_is_refused(
    model: dict[str, object], sentence: str, tiny_model_directory: Path, tmp_path: Path
) -> None:
    directory = ModelDirectory.open(tiny_model_directory)
    with pytest.raises(BadField, match=sentence):
        read_report(report(directory, tmp_path, None, **model), directory)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": 3, "protocols": {}}'])
def test_what_is_no_report_is_refused(text: str, tiny_model_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadField, match="is no report"):
        read_report(path, ModelDirectory.open(tiny_model_directory))
