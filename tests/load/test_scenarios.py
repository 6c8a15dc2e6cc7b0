"""The whole way in short: a server of a tiny model is started, overloaded, and told of in text, JSON and a page."""

import json
from pathlib import Path

import pytest

from tests.load.arrivals import Bounds
from tests.load.bench import FP32, Bench
from tests.load.page import document
from tests.load.report import Figure
from tests.load.scenarios import SCENARIOS


@pytest.fixture
def bench(tiny_model_directory: Path) -> Bench:
    return Bench(
        model=tiny_model_directory,
        variant=FP32,
        threads=1,
        bounds=Bounds(requests=20, seconds=0.3, most_seconds=5.0),
        rounds=1,
        kind="mixed",
        clients=[2],
        shares=[0.3, 0.6],
        deadline_ms=500,
        overload_s=0.5,
        rows=30,
        crops=20,
        pure_by="session",
    )


@pytest.mark.slow
async def test_a_sweep_ends_as_a_page_that_asks_nobody_for_anything(bench: Bench) -> None:
    report = await SCENARIOS["sweep"](bench)
    told = json.loads(json.dumps(report.as_json()))
    assert [run["loop"] for run in told["runs"]] == ["closed", "open", "open"]
    assert all(run["sent"] >= 20 and not run["errors"] for run in told["runs"])
    assert "infer" in told["runs"][0]["stages_ms"]
    assert told["runs"][0]["server_memory"]["pss_bytes"] > 0
    page = document(report)
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "http" not in page.replace("HTTP", "").replace("http-equiv", "")


@pytest.mark.slow
async def test_a_stream_is_indexed_whole_and_counted(bench: Bench) -> None:
    report = await SCENARIOS["bulk"](bench)
    (figure,) = report.figures
    assert "20 crops, {'added': 20}" in figure.of


def test_a_figure_says_whether_it_was_reached() -> None:
    assert Figure("ratio", 0.97, at_least=0.97).reached
    assert Figure("ratio", 1.2, at_most=1.1).reached is False
    assert Figure("told", 3.0).reached is None
    assert str(Figure("ratio", 0.5, at_least=0.9)) == "ratio: 0.5 (at least 0.9)  NOT reached"
