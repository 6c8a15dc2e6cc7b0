"""`reid bench schedule`: the figures are the simulator's, and what is typed wrongly is refused."""

import json

import pytest

from app.cli.bench.schedule import GUIDE, LOADS, read_costs, simulated
from app.cli.main import run
from app.core.planner import Costs
from app.errors import BadField

# Simulated independently for the guide's costs (Poisson, no copies), p50 and p99 in ms at each load.
KNOWN = {
    "window 5 ms": [(5.65, 6.87), (4.57, 6.87), (3.32, 6.87), (3.07, 5.85), (3.42, 6.81)],
    "take all": [(0.65, 1.42), (0.70, 2.02), (1.55, 3.51), (2.25, 4.22), (3.23, 6.77)],
    "planner": [(0.65, 1.42), (0.70, 1.98), (1.49, 3.00), (1.94, 3.97), (3.01, 6.69)],
}


def test_the_figures_are_those_of_another_simulation_of_the_same() -> None:
    rows = simulated(Costs(read_costs(GUIDE)), crops=20_000, seed=0)["loads"]
    for way, known in KNOWN.items():
        for row, (p50, p99) in zip(rows, known, strict=True):
            assert row[way]["p50_ms"] == pytest.approx(p50, rel=0.1)
            assert row[way]["p99_ms"] == pytest.approx(p99, rel=0.15)


@pytest.mark.parametrize("text", ["", "8", "a:1", "1:0", "1:-2", "0:1", "1:nan", "1:2:3"])
def test_costs_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadField, match="costs"):
        read_costs(text)


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "schedule", "--crops", "200"]) == 0
    assert "at the best size, 8" in capsys.readouterr().out
    assert run(["bench", "schedule", "--crops", "200", "--costs", "1:37.4,4:146.5", "--no-pads", "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["load"] for row in answer["loads"]] == list(LOADS)
    assert answer["best_size"] == 1
