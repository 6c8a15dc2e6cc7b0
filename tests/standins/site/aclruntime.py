"""`import aclruntime` finds this on an Atlas host that is only pretended: see tests/standins."""

import sys
from pathlib import Path
from typing import Any

_repository = str(Path(__file__).resolve().parents[3])
if _repository not in sys.path:
    sys.path.append(_repository)

from tests.standins.acl import binding, process, session, switches, tensors  # noqa: E402

_process = process.begin(switches.Switches.from_environment())
if _process.passes("import"):
    raise ImportError("libascend_hal.so: cannot open shared object file: No such file or directory")

_is_new = _process.switches.generation == "new"
InferenceSession: Any = binding.NewSession if _is_new else binding.OldSession
session_options, sumary, MemorySummary = session.session_options, session.sumary, session.MemorySummary
BaseTensor, Tensor, tensor_desc = tensors.BaseTensor, tensors.Tensor, tensors.tensor_desc
dtype, type = tensors.dtype, tensors.type_
batch, model = tensors.batch, binding.model
globals().update({member.name: member for kind in (dtype, type) for member in kind})
if _is_new:
    infer_options = binding.not_modelled("infer_options")


def standin_counters() -> dict[str, Any]:
    """Device bytes, leaks, lengths of the timing lists, sessions, runs, events. The real module has no such thing."""
    return _process.counters()
