"""One run: requests, samples, what it cost whom, and whether it holds; as a fact for JSON."""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.load import verdict
from tests.load.arrivals import Bounds, poisson
from tests.load.calls import Calls
from tests.load.generator import Client, Send, closed_loop, open_loop
from tests.load.samples import Taken, pooled, spread, stages
from tests.load.usage import GENERATOR, NEIGHBOUR, SERVER, Usage, Watch


@dataclass(frozen=True, slots=True)
class Target:
    """A server that runs. pids: its process, from which all of its others come; none where it is not ours to see."""

    name: str
    url: str
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """What a run sends: so many clients in a closed loop, or so many requests a second in an open one."""

    kind: str
    clients: int = 0
    offered_per_s: float = 0.0
    deadline_ms: float | None = None  # answers later than this are no good

    def __str__(self) -> str:
        if not self.clients and not self.offered_per_s:  # a stream, which is taken as fast as it is
            return self.kind
        how = f"{self.clients} clients" if self.clients else f"{self.offered_per_s:.3g} requests/s"
        return f"{self.kind}, {how}"


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured; several rounds of the same are one run with several usages."""

    target: str
    load: Load
    taken: Taken
    usages: tuple[Usage, ...]
    invalid: tuple[str, ...]

    @property
    def throughput_per_s(self) -> float:
        """Good answers a second."""
        return self.taken.rate_per_s()

    @property
    def goodput_per_s(self) -> float:
        """Good answers a second within the deadline."""
        return self.taken.rate_per_s(self.load.deadline_ms)

    @property
    def latency_ms(self) -> dict[str, Any]:
        """p50, p95, p99 and largest of good answers."""
        return spread(self.taken.latencies_ms())

    def as_json(self) -> dict[str, Any]:
        """Everything but the single samples."""
        samples, last = self.taken.samples, self.usages[-1]
        return {
            "target": self.target,
            **asdict(self.load),
            "loop": "closed" if self.load.clients else "open" if self.load.offered_per_s else "stream",
            "seconds": self.taken.seconds,
            "sent": len(samples),
            "throughput_per_s": self.throughput_per_s,
            "goodput_per_s": self.goodput_per_s,
            "latency_ms": self.latency_ms,
            "late_ms": spread([sample.late_ms for sample in samples]),
            "errors": self.taken.errors(),
            "stages_ms": stages(samples),
            "server_memory": last.memory(SERVER),
            "usage": [asdict(usage) for usage in self.usages],
            "valid": not self.invalid,
            "invalid_because": list(self.invalid),
        }


async def measure(
    target: Target, load: Load, calls: Calls, bounds: Bounds, seed: int = 0, neighbours: Sequence[int] = ()
) -> Run:
    """Send and count."""
    async with Client(target.url) as client:

        def sending() -> Awaitable[Taken]:
            return send(client.send, load, calls, bounds, seed)

        return await watched(target, load, sending, neighbours)


async def watched(
    target: Target, load: Load, sending: Callable[[], Awaitable[Taken]], neighbours: Sequence[int] = ()
) -> Run:
    """A run around whatever sends."""
    watch = Watch({GENERATOR: (os.getpid(),), SERVER: target.pids, NEIGHBOUR: neighbours})
    taken = await sending()
    usage = watch.usage()
    return Run(target.name, load, taken, (usage,), tuple(verdict.against(usage, taken)))


async def send(send_one: Send, load: Load, calls: Calls, bounds: Bounds, seed: int) -> Taken:
    """In the loop that the load names."""
    if load.clients:
        return await closed_loop(send_one, calls, load.clients, bounds)
    return await open_loop(send_one, calls, poisson(load.offered_per_s, seed), bounds)


async def warm_up(target: Target, calls: Calls, clients: int = 8, seconds: float = 2.0) -> None:
    """Requests that nobody counts."""
    await measure(target, Load("warm-up", clients), calls, Bounds(requests=0, seconds=seconds))


def together(rounds: Sequence[Run]) -> Run:
    """Rounds of the same load on the same server as one run; what speaks against one speaks against it."""
    first = rounds[0]
    usages = tuple(usage for one in rounds for usage in one.usages)
    invalid = tuple(f"round {i}: {why}" for i, one in enumerate(rounds, 1) for why in one.invalid)
    return Run(first.target, first.load, pooled([one.taken for one in rounds]), usages, invalid)
