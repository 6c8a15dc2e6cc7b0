"""How a test steers the `aclruntime` stand-in: the JSON object in STANDIN_ACL, every key optional.

generation     new | old
chips          soc names, one a device: two Ascend310P3
cann_version   8.1.RC1; an OM of a later one is refused
speed          0: no waiting. 1.0: a run takes what the guide's table says, a copy what 4 GB/s take; 2.0: twice that
compute        onnx: the OM's own graph, in fp16's precision. made-up: vectors from a few bytes of each crop, in no time
memory_mb      of each device: 21534
undelivered    np.array of an output that is still on the device: object (a 0-d array) | abort
noise          true: a line of log on fd 1 at every opening and run
counters_file  where `standin_counters()` is also written, now and then and at the end; {pid} in it is replaced
faults         a list of objects, see Fault
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Fault:
    """Something goes wrong.

    at: import, init, open, load, input-memory, h2d, execute, output-memory, pinned-memory, d2h, free, finalize.
    kind: error (with `code`, ACL's own), slow (by `seconds`, the GIL held), hang, death (SIGKILL), segv;
    at execute also nan (outputs that are no numbers); at d2h also lost (to_host delivers nothing).
    nth: the how-manieth time, on `device` if one is named; 0 is every time. marker: a path; the fault is over once that
    file is there, and it makes the file.
    """

    at: str
    kind: str = "error"
    nth: int = 1
    device: int | None = None
    code: int = 507015
    seconds: float = 1.0
    marker: str | None = None

    def is_due(self, count: int) -> bool:
        """Whether it happens at the count-th time. Leaves the marker."""
        if self.nth not in {0, count} or (self.marker and Path(self.marker).exists()):
            return False
        if self.marker:
            Path(self.marker).touch()
        return True


@dataclass(frozen=True)
class Switches:
    """See the top of this file."""

    generation: str = "new"
    chips: tuple[str, ...] = ("Ascend310P3", "Ascend310P3")
    cann_version: str = "8.1.RC1"
    speed: float = 0.0
    compute: str = "onnx"
    memory_mb: int = 21534
    undelivered: str = "object"
    noise: bool = False
    counters_file: str | None = None
    faults: tuple[Fault, ...] = field(default=())

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Unknown keys are mistakes of the test."""
        facts = dict(given)
        faults = tuple(Fault(**fault) for fault in facts.pop("faults", ()))
        chips = tuple(facts.pop("chips", cls.chips))
        return cls(faults=faults, chips=chips, **facts)

    @classmethod
    def from_environment(cls) -> Self:
        return cls.of(json.loads(os.environ.get("STANDIN_ACL", "{}")))
