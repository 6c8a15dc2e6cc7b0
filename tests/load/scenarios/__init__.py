"""Scenarios by name; the first line of each one's docstring says what it asks."""

from collections.abc import Callable, Coroutine
from typing import Any, Literal

from tests.load.bench import Bench
from tests.load.report import Report
from tests.load.scenarios.bulk import beside_bulk, bulk
from tests.load.scenarios.closed import efficiency, memory, one_client, search_efficiency
from tests.load.scenarios.curves import overload, sweep
from tests.load.scenarios.standin import standin

Scenario = Callable[[Bench], Coroutine[Any, Any, Report]]
Name = Literal[
    "sweep", "efficiency", "search-efficiency", "one-client", "memory", "overload", "bulk", "beside-bulk", "standin"
]
SCENARIOS: dict[Name, Scenario] = {
    "sweep": sweep,
    "efficiency": efficiency,
    "search-efficiency": search_efficiency,
    "one-client": one_client,
    "memory": memory,
    "overload": overload,
    "bulk": bulk,
    "beside-bulk": beside_bulk,
    "standin": standin,
}
