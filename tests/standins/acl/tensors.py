"""Tensor, BaseTensor and the small types of the binding."""

import enum
import operator
import os
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from tests.standins.acl import native
from tests.standins.acl.model import copy_seconds
from tests.standins.acl.process import BAD_DEVICE_ID, INVALID, NO_COPY, NO_MEMORY, Context, failure, the_process

if TYPE_CHECKING:
    from tests.standins.acl.session import Core


class _Enum(enum.Enum):
    """Like pybind11's: int() works, and no member equals a number."""

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)


class dtype(_Enum):  # noqa: N801  the binding's own name
    """ACL's codes."""

    float32, float16, int8, int32, uint8 = 0, 1, 2, 3, 4
    int16, uint16, uint32, int64, uint64, double, bool = 6, 7, 8, 9, 10, 11, 12


OF_NUMPY = {"float64": "double"} | {kind.name: kind.name for kind in dtype}


class type_(_Enum):  # noqa: N801
    """Where a tensor lies."""

    memory_host, memory_device, memory_dvpp = 0, 1, 2


def incompatible(where: str) -> TypeError:
    """pybind11's refusal, in its first words."""
    return TypeError(f"{where}(): incompatible function arguments. The following argument types are supported:")


def index(value: object, where: str) -> int:
    """As pybind11 takes an int: anything with __index__, no float, no text."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise incompatible(where) from None


class BaseTensor:
    """Points at host memory and owns nothing."""

    def __init__(self, *arguments: SupportsIndex) -> None:
        if len(arguments) != 2:
            raise incompatible("BaseTensor")
        self.buf, self.size = (index(argument, "BaseTensor") for argument in arguments)


class tensor_desc:  # noqa: N801
    """A live view into the session: it changes with the gear, and dangles when the session is gone."""

    def __init__(self, core: "Core", is_input: bool) -> None:
        self._core, self._is_input = weakref.ref(core), is_input

    def _facts(self) -> dict[str, Any]:
        core = self._core()
        if core is None or core.freed:
            raise RuntimeError("the stand-in: a tensor_desc outlived its session; on an NPU this reads freed memory")
        return core.describe(self._is_input)

    name = property(lambda self: self._facts()["name"])
    datatype = property(lambda self: self._facts()["datatype"])
    format = property(lambda self: self._facts()["format"])
    shape = property(lambda self: list(self._facts()["shape"]))
    size = property(lambda self: self._facts()["size"])
    realsize = property(lambda self: self._facts()["realsize"])


class Tensor:
    """Bytes in pinned host memory or on a device, with a shape."""

    def __init__(self, buffer: object) -> None:
        array = buffer if isinstance(buffer, np.ndarray) else np.asarray(memoryview(buffer))  # type: ignore[arg-type]
        _pin("Tensor")
        # The binding copies nbytes from the first element on and looks at no strides.
        raw = native.bytes_at(array.ctypes.data, array.nbytes)
        kind = array.dtype if array.dtype.name in OF_NUMPY else np.dtype(np.uint8)
        shape = array.shape if kind == array.dtype else (array.nbytes,)
        self._set(np.frombuffer(raw, dtype=kind).reshape(shape), None, 0)

    @classmethod
    def _on_device(cls, values: npt.NDArray[Any], context: Context, size: int) -> "Tensor":
        """Takes over `size` bytes that are already allocated."""
        tensor = cls.__new__(cls)
        tensor._set(values, context, size)
        return tensor

    def _set(self, values: npt.NDArray[Any], context: Context | None, size: int) -> None:
        self._process, self._values, self._context, self._size = the_process(), values, context, size
        self._lost = False

    device = property(lambda self: self._context.device if self._context else -1)
    type = property(lambda self: type_.memory_device if self._context else type_.memory_host)
    dtype = property(lambda self: dtype[OF_NUMPY[self._values.dtype.name]])
    shape = property(lambda self: list(self._values.shape))

    def to_host(self) -> None:
        """Into a new pinned buffer."""
        if self._context is None:
            return
        _pin("to_host")
        if not self._context.alive:
            raise failure(INVALID, "aclrtSetCurrentContext failed: the context of this tensor is gone")
        if self._process.switches.generation == "new":
            self._process.make_current(self._context)
        began = time.perf_counter()
        fault = self._process.due("d2h", self._context.device)
        if fault and fault.kind == "error":
            raise failure(NO_COPY, f"aclrtMemcpy failed, errorCode = {fault.code}")
        if fault and fault.kind == "lost":
            return
        native.wait(self._process.switches.speed * copy_seconds(self._size))
        self._process.d2h_times.append(1000 * (time.perf_counter() - began))
        self._drop()
        self._context = None

    def to_device(self, number: SupportsIndex, /) -> None:
        """The new generation uses the context of the device's first session."""
        device = index(number, "to_device")
        if not 0 <= device < len(self._process.devices):
            raise failure(BAD_DEVICE_ID, f"device {device} is not there")
        context = self._process.devices[device].first_context
        if context is None and self._process.switches.generation == "old":
            context = self._process.open(device)
        if context is None or not context.alive:
            raise failure(INVALID, f"device {device} has no context")
        self._process.make_current(context)
        if not self._process.allocate(device, self._values.nbytes, "input-memory"):
            raise failure(NO_MEMORY, "no device memory for a tensor")
        self._context, self._size = context, self._values.nbytes

    def to_dvpp(self, _number: int, /) -> None:
        raise NotImplementedError("the stand-in has no DVPP")

    @property
    def __array__(self) -> Any:
        """numpy looks this up where the binding offers a buffer. On the device there is none to offer."""
        if self._context is None:
            return self._as_array
        if self._process.switches.undelivered == "abort":  # pybind11 2.10: an exception where none may be thrown
            os.write(2, b"terminate called: tensor is in npu. can't convert to numpy array\n")
            os.abort()
        raise AttributeError("__array__")  # pybind11 2.13 and 3.0: numpy makes a 0-d array of objects of it

    def _as_array(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._values, dtype=dtype, copy=copy if copy is not None else True)

    def _drop(self) -> None:
        if self._context is None:
            return
        if self._context.alive and not self._process.counts.finalized:
            self._process.release(self._context.device, self._size)
        else:
            self._process.leak(self._size)

    def __del__(self) -> None:
        if hasattr(self, "_context"):
            self._drop()


def batch(inputs: Sequence[Tensor], keep_dims: bool = False) -> Tensor:
    """Several host tensors as one; with keep_dims along the first axis, else along a new one."""
    join = np.concatenate if keep_dims else np.stack
    return Tensor(join([np.array(tensor) for tensor in inputs]))


def _pin(what: str) -> None:
    """Pinned memory is allocated before any context is set: a thread without one gets none."""
    process = the_process()
    if process.current() is None or process.passes("pinned-memory"):
        raise failure(NO_MEMORY, f"aclrtMallocHost failed in {what}")
