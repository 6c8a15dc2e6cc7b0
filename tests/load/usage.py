"""Processor time and memory of every process in a run, and of the machine, read from /proc (proc(5))."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
GENERATOR, SERVER, NEIGHBOUR = "generator", "server", "neighbour"


@dataclass(frozen=True, slots=True)
class Used:
    """One process: cores is its processor time over the run's time; peak_rss_bytes counts from its start."""

    role: str
    pid: int
    name: str
    cores: float
    rss_bytes: int
    pss_bytes: int
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a run. others_cores: what processes took that have no part in it; stolen_cores: what the host took back."""

    processes: tuple[Used, ...]
    cores: int
    seconds: float
    busy_cores: float
    others_cores: float
    stolen_cores: float

    def cores_of(self, role: str) -> float:
        """Of all processes in this role."""
        return sum(process.cores for process in self.processes if process.role == role)

    def memory(self, role: str) -> dict[str, int]:
        """Resident and proportional bytes of all processes in this role, at the end, and the sum of their peaks."""
        found = [process for process in self.processes if process.role == role]
        return {key: sum(getattr(one, key) for one in found) for key in ("rss_bytes", "pss_bytes", "peak_rss_bytes")}


class Watch:
    """Counts from when it is made until `usage()`. roots: processes by role, each with all that come from it."""

    def __init__(self, roots: Mapping[str, Iterable[int]]) -> None:
        self._roots = {role: tuple(pids) for role, pids in roots.items()}
        self._begun = time.perf_counter()
        self._cpu = _cpu_seconds(self._pids())
        self._machine = _machine_seconds()

    def usage(self) -> Usage:
        """What was used since then. A process that has ended meanwhile is missing."""
        seconds = time.perf_counter() - self._begun
        pids = self._pids()
        cpu, (busy, stolen) = _cpu_seconds(pids), _machine_seconds()
        processes = tuple(
            _used(pid, role, (cpu[pid] - self._cpu.get(pid, 0.0)) / seconds) for pid, role in pids.items() if pid in cpu
        )
        busy_cores, stolen_cores = (busy - self._machine[0]) / seconds, (stolen - self._machine[1]) / seconds
        ours = sum(process.cores for process in processes)
        return Usage(processes, os.cpu_count() or 1, seconds, busy_cores, max(0.0, busy_cores - ours), stolen_cores)

    def _pids(self) -> dict[int, str]:
        """Each process once: the generator is the parent of servers, so the more special role wins."""
        parents = {pid: parent for pid, parent, _ in _all_processes()}
        roles = {pid: role for role, roots in self._roots.items() for pid in roots}
        found = {}
        for pid in parents:
            ancestor: int | None = pid
            while ancestor is not None and ancestor not in roles:
                ancestor = parents.get(ancestor)
            if ancestor is not None:
                found[pid] = roles[ancestor]
        return found


def _all_processes() -> list[tuple[int, int, float]]:
    """pid, parent and processor seconds of every process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # The name in brackets may hold anything; fields are counted from behind it.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.append((int(folder.name), int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS))
    return found


def _cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    wanted = set(pids)
    return {pid: seconds for pid, _, seconds in _all_processes() if pid in wanted}


def _machine_seconds() -> tuple[float, float]:
    """Busy in processes (user, nice, system), and stolen, over all cores."""
    values = [int(value) / _TICKS for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(values[:3]), values[7]


def _used(pid: int, role: str, cores: float) -> Used:
    folder = Path(f"/proc/{pid}")
    try:
        status = _kilobytes(folder / "status")
        pss = _kilobytes(folder / "smaps_rollup").get("Pss", 0)
        name = (folder / "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return Used(role, pid, "ended", cores, 0, 0, 0)
    return Used(role, pid, name, cores, status.get("VmRSS", 0), pss, status.get("VmHWM", 0))


def _kilobytes(path: Path) -> dict[str, int]:
    """`VmRSS:   1234 kB` by name, in bytes."""
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: int(value.split()[0]) * 1024 for name, _, value in lines if value.endswith(" kB")}
