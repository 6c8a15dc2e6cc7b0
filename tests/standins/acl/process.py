"""ACL as one process sees it: started once, ended once, devices with their memory, contexts, counters, scripted faults."""

import atexit
import json
import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.standins.acl import native
from tests.standins.acl.switches import Fault, Switches

GENERAL, INVALID, NO_MEMORY, NO_COPY, BAD_DEVICE_ID = -1, 1, 2, 26, 1004
ACL_BAD_DEVICE, ACL_NOT_STARTED, ACL_NO_MEMORY = 107001, 100001, 207001
MESSAGES = {
    GENERAL: "ACL: general failure",
    INVALID: "ACL: invalid parameter",
    NO_MEMORY: "ACL: memory allocation fail",
    NO_COPY: "ACL: memory copy fail",
    BAD_DEVICE_ID: "Invalid parameter",
    ACL_NOT_STARTED: "ACL is not initialized",
}
RUNS_BETWEEN_WRITES = 100


def failure(code: int, cause: str) -> RuntimeError:
    """The exception as the binding throws it, trailing blank included; the cause goes to stdout alone."""
    native.log("ERROR", cause)
    return RuntimeError(f"[{code}][{MESSAGES.get(code, 'Error code unknown')}] ")


@dataclass(eq=False)
class Context:
    """Belongs to a device; the new generation makes one for every session, the old one for every device."""

    device: int
    alive: bool = True


@dataclass
class Device:
    """A chip as this process uses it."""

    soc: str
    memory: int
    used: int = 0
    broken: bool = False  # after a fault of the hardware; nothing is known to mend that within the process
    first_context: Context | None = None


@dataclass
class Counts:
    """What tests look at."""

    runs: int = 0
    leaked_bytes: int = 0
    sessions_alive: int = 0
    contexts_alive: int = 0
    exec_times: int = 0
    finalized: bool = False
    events: list[str] = field(default_factory=list)


class Process:
    """All that the library keeps for the process."""

    def __init__(self, switches: Switches) -> None:
        self.switches, self.pid = switches, os.getpid()
        self.devices = [Device(soc, switches.memory_mb * 2**20) for soc in switches.chips]
        self.counts = Counts()
        self.started = False
        self.log_level = 2
        self.h2d_times: list[float] = []
        self.d2h_times: list[float] = []
        self.contexts: list[Context] = []
        self._current: dict[int, Context] = {}  # thread -> context
        self._passed: dict[tuple[str, int | None], int] = {}
        # Serialises the one stretch in which the stand-in lets go of the GIL (ONNX Runtime does); the binding never does.
        self.lock = threading.Lock()

    # --- starting and ending

    def start(self) -> None:
        """aclInit, once; its failure is only logged, and whatever comes next fails."""
        if self.started or self.counts.finalized:
            return
        if self.switches.generation == "old":  # even at log_level 4
            native.log("INFO", "acl init success")
            native.log("INFO", "open device success")
        code = self.passes("init")
        self.started = not code
        if code:
            native.log("ERROR", f"acl init failed, errorCode = {code}")

    def end(self) -> int:
        """aclFinalize: all contexts go, and none comes back in this process."""
        if self.counts.finalized:
            # The old generation tries to open the device anew; the new one has nothing left to do.
            return ACL_NOT_STARTED if self.switches.generation == "old" else 0
        code = self.passes("finalize")
        for context in self.contexts:
            self.destroy(context)
        for device in self.devices:
            device.used = 0
        self._current.clear()
        self.counts.finalized, self.started = True, False
        self.note(f"finalize {code}")
        return code

    # --- contexts

    def open(self, number: int) -> Context:
        """A context of the device, current in this thread. Raises with ACL's raw code."""
        if self.counts.finalized or not self.started:
            raise failure(ACL_NOT_STARTED, "aclrtSetDevice: ACL is not started")
        if not 0 <= number < len(self.devices):
            raise failure(ACL_BAD_DEVICE, f"acl open device {number} failed")
        code = self.passes("open", number)
        if code:
            raise failure(code, f"acl open device {number} failed, errorCode = {code}")
        device = self.devices[number]
        if self.switches.generation == "old" and device.first_context:
            context = device.first_context
        else:
            context = Context(number)
            self.contexts.append(context)
            self.counts.contexts_alive += 1
            device.first_context = device.first_context or context
        self.make_current(context)
        return context

    def make_current(self, context: Context) -> None:
        self._current[threading.get_ident()] = context

    def current(self) -> Context | None:
        context = self._current.get(threading.get_ident())
        return context if context and context.alive else None

    def destroy(self, context: Context) -> None:
        self.counts.contexts_alive -= context.alive
        context.alive = False

    # --- memory

    def allocate(self, number: int, size: int, at: str) -> bool:
        """Whether there was room."""
        device = self.devices[number]
        if self.passes(at, number) or device.used + size > device.memory:
            native.log("ERROR", f"aclrtMalloc of {size} bytes failed, errorCode = {ACL_NO_MEMORY}")
            return False
        device.used += size
        return True

    def release(self, number: int, size: int) -> None:
        if not self.counts.finalized:
            self.devices[number].used -= size

    def leak(self, size: int) -> None:
        """The bytes stay used."""
        self.counts.leaked_bytes += size

    # --- faults

    def passes(self, at: str, device: int | None = None) -> int:
        """0, or the code of the error that is due here."""
        return self.happen(self.due(at, device))

    def happen(self, fault: Fault | None) -> int:
        """A slow or hanging call waits here, a dying process ends here."""
        if fault is None or fault.kind in {"nan", "lost"}:
            return 0
        if fault.kind == "error":
            return fault.code
        self.write_counters()
        if fault.kind == "slow":
            native.wait(fault.seconds)
            return 0
        if fault.kind == "hang":
            native.hang()
        native.crash({"death": signal.SIGKILL, "segv": signal.SIGSEGV}[fault.kind])

    def due(self, at: str, device: int | None = None) -> Fault | None:
        """The first fault that happens this time, which is counted."""
        for key in {(at, None), (at, device)}:
            self._passed[key] = self._passed.get(key, 0) + 1
        for fault in self.switches.faults:
            here = fault.at == at and fault.device in {None, device}
            if here and fault.is_due(self._passed[at, fault.device]):
                return fault
        return None

    # --- counters

    def counters(self) -> dict[str, Any]:
        """A copy, for JSON."""
        return {
            **vars(self.counts),
            "events": list(self.counts.events),
            "device_bytes": sum(device.used for device in self.devices),
            "h2d_times": len(self.h2d_times),
            "d2h_times": len(self.d2h_times),
            "pid": self.pid,
        }

    def note(self, event: str) -> None:
        """A step of the life of the process, such as `finalize 0`."""
        self.counts.events.append(event)
        self.write_counters()

    def ran(self) -> None:
        self.counts.runs += 1
        if self.counts.runs % RUNS_BETWEEN_WRITES == 0:
            self.write_counters()

    def write_counters(self) -> None:
        if self.switches.counters_file is None or os.getpid() != self.pid:
            return
        target = Path(self.switches.counters_file.format(pid=self.pid))
        partial = target.with_name(f"{target.name}.{self.pid}.partial")
        partial.write_text(json.dumps(self.counters()), encoding="utf-8")
        partial.replace(target)


_process: Process | None = None


def begin(switches: Switches) -> Process:
    """The library has been loaded. Tests that stay in one process begin anew."""
    global _process  # noqa: PLW0603  as process-wide as what it stands for
    _process = Process(switches)
    return _process


def the_process() -> Process:
    if _process is None:
        raise RuntimeError("the stand-in is used before `aclruntime` is imported")
    return _process


@atexit.register
def _exit() -> None:
    """A static destructor of the binding ends ACL where nobody has."""
    if _process and os.getpid() == _process.pid:
        if _process.started:
            _process.note("destructor")
            _process.end()
        _process.note("exit")
