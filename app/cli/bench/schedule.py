"""`reid bench schedule`: how long crops wait for a device at several loads, by our planner and by other ways, simulated.

Nothing is measured here: the costs of the launches are given, and the same arrivals are served in each way.
"""

from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.common import JsonPath, notes, out, write_json
from app.core.planner import BULK_SHARE, Costs
from app.core.schedule import Outcome, planned, poisson, simulate, take_all, window
from app.errors import BadField

Json = dict[str, Any]
GUIDE = (
    "1:0.65,4:1.08,8:1.87,16:4.63,32:8.96"  # of Ascend310P3, by the guide's 1542, 3715, 4287, 3454 and 3571 images/s
)
LOADS = (0.05, 0.2, 0.5, 0.7, 0.9)  # of the rate at the best size
_WINDOW_MS = 5.0


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(schedule)


def schedule(
    costs: Annotated[
        str, typer.Option(help="Milliseconds by batch size; by default the guide's of Ascend310P3.")
    ] = GUIDE,
    pads: Annotated[bool, typer.Option(help="A batch of another size costs what the next larger one does.")] = True,
    crops: Annotated[int, typer.Option(min=100, help="Crops that arrive at each load.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 0,
    json: JsonPath = None,
) -> None:
    """p50 and p99 of crops that arrive at random, at five loads: a 5 ms window, take-all, our planner; and beside bulk."""
    table = Costs(read_costs(costs), pads)
    notes.print(f"serving {crops:,} crops at {len(LOADS)} loads in four ways", style="dim")
    answer = simulated(table, crops, seed)
    if not write_json(json, answer):
        show(answer)


def read_costs(text: str) -> dict[int, float]:
    """`1:0.65,4:1.08` as milliseconds by batch size. Raises BadField."""
    try:
        pairs = [part.split(":") for part in text.split(",")]
        found = {int(size): float(ms) for size, ms in pairs}
    except ValueError as error:
        raise BadField("costs", f"{text!r} is not like {GUIDE}") from error
    if any(not 1 <= size <= 4096 or not 0 < ms < 1e6 for size, ms in found.items()):
        raise BadField("costs", f"{text!r} has a size that is not in 1 to 4096, or a time that is not above zero")
    return found


def simulated(costs: Costs, crops: int, seed: int) -> Json:
    """Each way at each load, by the same arrivals."""
    ways = {
        f"window {_WINDOW_MS:g} ms": window(_WINDOW_MS, costs.best),
        "take all": take_all(costs.best),
        "planner": planned,
    }
    rows = []
    for load in LOADS:
        arrivals = poisson(load * costs.best_rate, crops, seed)
        row = {name: _times(simulate(way, costs, arrivals)) for name, way in ways.items()}
        rows.append({"load": load, **row, "beside bulk": _beside_bulk(costs, arrivals)})
    return {
        "batch_ms": {str(size): ms for size, ms in costs.batch_ms.items()},
        "pads": costs.pads,
        "best_size": costs.best,
        "best_per_s": costs.best_rate * 1000,
        "crops": crops,
        "seed": seed,
        "loads": rows,
    }


def _times(outcome: Outcome) -> Json:
    return {"p50_ms": outcome.percentile(0.5), "p99_ms": outcome.percentile(0.99)}


def _beside_bulk(costs: Costs, arrivals: list[float]) -> Json:
    """The planner while bulk crops wait without end; their rate, over what the best size would leave them."""
    outcome = simulate(planned, costs, arrivals, backlog=True)
    left = outcome.ended_ms * costs.best_rate - len(arrivals)
    return {
        **_times(outcome),
        "bulk_per_s": outcome.bulk / outcome.ended_ms * 1000,
        "bulk_of_what_is_left": outcome.bulk / left,
    }


def show(answer: Json) -> None:
    """The same as a table."""
    ways = [name for name in answer["loads"][0] if name != "load"]
    table = Table(box=None, pad_edge=False)
    for column in ("load", *ways, "bulk/s", "of rest"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in answer["loads"]:
        bulk = row["beside bulk"]
        times = (f"{row[way]['p50_ms']:.2f} / {row[way]['p99_ms']:.2f}" for way in ways)
        share = f"{bulk['bulk_of_what_is_left'] * 100:.0f} %"
        table.add_row(f"{row['load'] * 100:.0f} %", *times, f"{bulk['bulk_per_s']:,.0f}", share)
    out.print(table)
    out.print(
        f"p50 / p99 in ms, simulated; loads of {answer['best_per_s']:,.0f} crops/s at the best size, {answer['best_size']}; "
        f"{answer['crops']:,} crops arrive at random (seed {answer['seed']}); nothing is decoded or copied. "
        f"Bulk has {BULK_SHARE * 100:g} % of the crops at least."
    )
