"""What the numbers mean that Ascend's runtime answers with, and what its operator can do about each.

Sources: Huawei's `aclError` table (AscendCL API reference), the FAQ of ais_bench, and the error texts in the sources of
aclruntime, whose own small numbers stand beside ACL's six-digit ones. The classes are Huawei's: 1xxxxx wrong use or set-up,
2xxxxx resources, 3xxxxx service, 5xxxxx inside the runtime, the driver or the hardware.
"""

import re
from collections.abc import Sequence

from app.errors import BadDevice, DeviceLost, ReidError

ON_THE_CPU = "to run on the CPU instead, set REID_VARIANT=onnx-fp32 and leave REID_DEVICES empty"
_SET_ENV = "source set_env.sh of the CANN toolkit before the server starts"
_REBUILD = "the OM does not fit: build it again for this chip and this CANN with `python -m model_build compile`"
_LOOK = "look at `npu-smi info` and dmesg; a card that goes on failing needs its driver restarted, or the host"
_MEMORY = "load fewer batch sizes (REID_BATCH_SIZES), or stop what else uses the chip (`npu-smi info` shows it)"
_OURS = "this is a mistake of ours or a changed library; report it with the log"

CODES: dict[int, str] = {
    -1: "the library refused or the run failed; the line that it printed says why",
    1: f"the OM is missing, damaged, or made for another chip or CANN; {_REBUILD}",
    2: f"no memory for an output or a tensor; {_MEMORY}",
    26: f"a copy to or from the chip failed; {_LOOK}",
    1004: f"a tensor was moved to a chip that is not there; {_OURS}",
    3011: f"an output of size 0; {_REBUILD}",
    100001: "ACL is not initialised: aclInit failed, often for want of the driver or of rights; "
    f"run `npu-smi info` as this user; {ON_THE_CPU}",
    100002: f"ACL was initialised twice in one process; {_OURS}",
    100012: _REBUILD,
    100013: _REBUILD,
    100016: _REBUILD,
    100037: f"ACL was finalised twice in one process; {_OURS}",
    100039: "a stub library of the toolkit (devlib) is on LD_LIBRARY_PATH; it is for building only: take it off",
    107001: "no chip of this number here; `npu-smi info` shows which there are, and a container counts its own from 0; "
    f"{ON_THE_CPU}",
    107002: f"no context in the calling thread; {_OURS}",
    107003: f"a stream of another context; {_OURS}",
    107004: f"a model of another context; {_OURS}",
    145002: _REBUILD,
    145011: f"the batch size could not be set on a dynamic OM: its address; {_OURS}",
    145012: f"the batch size could not be set on a dynamic OM: its length; {_OURS}",
    145013: f"the batch size is none that the OM was compiled for; {_REBUILD}",
    148049: f"ASCEND_OPP_PATH is not set: {_SET_ENV}",
    200000: f"memory is used up; {_MEMORY}",
    207001: f"the chip's memory is used up; {_MEMORY}",
    207004: f"there is no device; is the driver loaded, and are /dev/davinci* there? {ON_THE_CPU}",
    207006: "no permission for the device; run as root or in the group of HwHiAiUser (`id HwHiAiUser` on the host)",
    207008: f"no stream is left; {_MEMORY}",
    207010: f"no room for another model; {_MEMORY}",
    207018: f"the chip's memory is used up; {_MEMORY}",
    245000: f"memory is used up; {_MEMORY}",
    245002: f"memory is used up; {_MEMORY}",
    500002: f"the graph engine failed; {_REBUILD}",
    507008: f"the runtime could not tell the chip's version; driver and CANN must fit each other; {_LOOK}",
    507010: f"the chip's heartbeat is lost: it is gone; {_LOOK}",
    507011: f"the model's execution failed; {_LOOK}",
    507014: f"an AI core ran into its time limit; {_LOOK}",
    507015: f"an AI core raised an exception; {_LOOK}",
    507017: f"an AI CPU ran into its time limit; {_LOOK}",
    507018: f"an AI CPU raised an exception; {_LOOK}",
    507033: "the device could not be opened: no driver, no rights, a fault, or another container holds it; "
    f"run `npu-smi info` as this user; {ON_THE_CPU}",
    507046: f"a stream did not finish in time; {_LOOK}",
    507053: f"the chip met a memory error; {_LOOK}",
    507899: "the driver failed inside, as one does that is older than the CANN above it; the release notes of CANN name its driver",
    507901: f"the channel between host and chip (HDC) is closed: the device is gone; {_LOOK}",
    545001: f"the model cannot be loaded; {_REBUILD}",
}
CLASSES = {
    1: "wrong use or set-up",
    2: f"a resource is used up; {_MEMORY}",
    3: "a service of the runtime failed",
    5: f"a fault inside; {_LOOK}",
}
_BINDING = re.compile(r"^\[(-?\d+)\]\[(.*)\] ?$", re.DOTALL)  # how aclruntime words every RuntimeError
_PRINTED = re.compile(r"(?<!\d)([1235]\d{5})(?!\d)")


def code_of(error: BaseException) -> int | None:
    """The number in an error of aclruntime, `[507033][Error code unknown] `; None where there is none."""
    found = _BINDING.match(str(error))
    return int(found[1]) if found else None


def explain(code: int) -> str:
    """The number with its meaning and remedy."""
    return (
        f"[{code}] {CODES.get(code) or CLASSES.get(code // 100_000, 'a number that Huawei lists nowhere we know of')}"
    )


def failure(code: int | None, what: str) -> ReidError:
    """The error for a number met while doing `what`: 1xxxxx, and an OM that does not fit, are set up wrongly and are not
    tried again; after anything else the worker is replaced, since what failed leaks and may stay broken."""
    if code is None:
        return DeviceLost(f"{what} failed without a number; the log has what the library printed")
    wrong = code == 1 or 100_000 <= code < 200_000
    return (BadDevice if wrong else DeviceLost)(f"{what}: {explain(code)}")


def with_causes(error: ReidError, printed: Sequence[str]) -> ReidError:
    """The error with the six-digit numbers that the library printed; its exceptions often say -1 and no more.

    Where one of them is a fault of device or memory, what looked like a wrong set-up is worth another try.
    """
    numbers = [int(found) for line in printed for found in _PRINTED.findall(line)]
    causes = [code for code in dict.fromkeys(numbers) if code in CODES and f"[{code}]" not in str(error)]
    if not causes:
        return error
    passing = any(code >= 200_000 for code in causes)
    kind = DeviceLost if passing and isinstance(error, BadDevice) else type(error)
    return kind("; it printed: ".join([str(error), *map(explain, causes)]))
