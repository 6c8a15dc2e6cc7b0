"""InferenceSession as Python sees it, in two generations. Positional arguments only, and pybind11's kind of TypeError."""

import signal
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.standins.acl import native
from tests.standins.acl.process import GENERAL, INVALID, failure, the_process
from tests.standins.acl.session import Core, session_options, sumary
from tests.standins.acl.tensors import BaseTensor, Tensor, incompatible, index, tensor_desc


class _Session:
    """What both generations have."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        if keywords or len(arguments) != 3 or not isinstance(arguments[0], str):
            raise incompatible("__init__")
        path, device, options = arguments[0], index(arguments[1], "__init__"), arguments[2]
        if options is None:  # taken, and then read through
            native.crash(signal.SIGSEGV)
        if not isinstance(options, session_options):
            raise incompatible("__init__")
        self._core = Core(path, device, options)

    def run(self, *arguments: Any, **keywords: Any) -> list[Tensor]:
        """(output names, feeds): a list of BaseTensor, a list of Tensor, or a dict of name to Tensor."""
        if keywords or len(arguments) != 2 or not _is_list_of(arguments[0], str):
            raise incompatible("run")
        names, feeds = list(arguments[0]), arguments[1]
        core = self._core
        if _is_list_of(feeds, BaseTensor):
            core.enter()
            return core.run(names, lambda: core.read_base_tensors(feeds), owned=True)
        if isinstance(feeds, dict) and all(isinstance(feed, Tensor) for feed in feeds.values()):
            core.enter()
            if any(name != core.model.header.input_name for name in feeds):
                raise failure(GENERAL, f"no input of the name {list(feeds)}")
            feeds = list(feeds.values())
        if not _is_list_of(feeds, Tensor):
            raise incompatible("run")
        core.enter()
        return core.run(names, lambda: core.read_tensors(feeds), owned=False)

    def get_inputs(self) -> list[tensor_desc]:
        """The extra input of a dynamic-batch OM does not show."""
        return [tensor_desc(self._core, is_input=True)]

    def get_outputs(self) -> list[tensor_desc]:
        return [tensor_desc(self._core, is_input=False)]

    def options(self) -> session_options:
        """The live ones."""
        return self._core.options

    def sumary(self) -> sumary:
        return sumary(list(self._core.exec_times))

    def reset_sumaryinfo(self) -> None:
        self._core.process.counts.exec_times -= len(self._core.exec_times)
        self._core.exec_times.clear()

    def set_dynamic_batchsize(self, *arguments: Any) -> None:
        """A compiled gear, kept until the next one."""
        if len(arguments) != 1:
            raise incompatible("set_dynamic_batchsize")
        gear, core = index(arguments[0], "set_dynamic_batchsize"), self._core
        if core.new or core.freed:  # the old generation sets no context here
            core.enter()
        gears = core.model.header.gears
        if not gears:
            raise failure(INVALID, "the model has no dynamic batch")
        if gear not in gears:
            native.log("ERROR", "the dymBatch parameter is not correct")
            raise failure(INVALID, f"allowed gears: {' '.join(map(str, gears))}")
        core.gear = core.real_batch = gear

    def set_staticbatch(self) -> None:
        """Forgets the gear, and leaves realsize where it is."""
        self._core.gear = None

    def __del__(self) -> None:
        if hasattr(self, "_core"):
            self._core.unload()


class OldSession(_Session):
    """Ascend/tools, June 2023."""

    def finalize(self) -> int:
        """Ends ACL for the whole process, whichever session is asked."""
        return the_process().end()


class NewSession(_Session):
    """Ascend/msit, June 2024."""

    @staticmethod
    def finalize() -> int:
        """Ends ACL for the whole process."""
        return the_process().end()

    def free_resource(self) -> int:
        """Unloads the model and destroys the session's context; outputs that still lie on the device are lost."""
        core = self._core
        if core.freed:
            return 0
        code = core.process.passes("free", core.device)
        if not code:
            core.unload()
            core.process.destroy(core.context)
            core.freed = True
        core.process.note(f"free {core.device} {code}")
        return code

    def get_max_dym_batchsize(self) -> int:
        gears = self._core.model.header.gears
        return gears[-1] if gears else 0


def model(modelPath: Any, deviceId: Any = 0, options: Any = None) -> Any:  # noqa: N803  the binding's own names
    """The factory, whose default crashes."""
    session = NewSession if the_process().switches.generation == "new" else OldSession
    return session(modelPath, deviceId, options)


def not_modelled(name: str) -> Callable[..., Any]:
    """A name that the binding has, and whose use in the product would need a better stand-in first."""

    def refuse(*_: object, **__: object) -> Any:
        raise NotImplementedError(f"the stand-in has no {name}")

    return refuse


NOT_MODELLED = (
    "set_dynamic_hw",
    "set_dynamic_dims",
    "set_dynamic_shape",
    "set_custom_outsize",
    "create_tensor_from_fileslist",
)
NEW_NOT_MODELLED = ("first_inner_run", "inner_run", "run_pipeline", "aipp_set_input_format", "set_dym_aipp_info_set")
for _name in NOT_MODELLED:
    setattr(_Session, _name, not_modelled(_name))
for _name in NEW_NOT_MODELLED:
    setattr(NewSession, _name, not_modelled(_name))


def _is_list_of(value: object, kind: type) -> bool:
    """pybind11 takes any sequence but text for a vector; an ndarray of numbers fails at its elements."""
    if not isinstance(value, list | tuple | np.ndarray):
        return False
    return all(isinstance(element, kind) for element in value)
