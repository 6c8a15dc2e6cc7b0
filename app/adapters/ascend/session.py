"""Embedder on aclruntime: OM models on one Ascend NPU chip. The only file that imports it.

It is meant to be alone in a process (`app.adapters.worker`): a run holds Python's lock, contexts belong to threads, a
failed run leaks, causes go to standard output, and ACL cannot be started twice. Facts are from the sources of aclruntime
(both public generations, 2023 and 2024) and Huawei's ACL manual; the two differ in who owns a context and how it ends.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from app.adapters.ascend.codes import ON_THE_CPU, code_of, failure
from app.core.preprocess import HEIGHT, WIDTH, normalise
from app.errors import BadDevice, DeviceLost
from app.ports import Crops, Floats, RunTimes

log = logging.getLogger(__name__)
_SHAPES = {"NCHW": (3, HEIGHT, WIDTH), "NHWC": (HEIGHT, WIDTH, 3)}
_FLOAT32 = 0  # ACL's codes of data types
_DTYPES: dict[str, tuple[int, type[np.generic]]] = {"float32": (_FLOAT32, np.float32), "uint8": (4, np.uint8)}
_ERRORS_ONLY = 4  # log_level of the whole process; the library's errors are printed at any level


@dataclass(frozen=True, slots=True)
class OmFile:
    """An OM, the batch sizes to use it for, and what it was compiled for: one size, or several up to `largest`."""

    path: Path
    sizes: tuple[int, ...]
    largest: int
    dynamic: bool
    dtype: Literal["float32", "uint8"]
    layout: Literal["NCHW", "NHWC"]


def load_library() -> Any:
    """The module aclruntime. Raises BadDevice, with how to get it."""
    try:
        import aclruntime
    except ModuleNotFoundError as error:
        if error.name != "aclruntime":
            raise
        raise BadDevice(
            "aclruntime is not installed: it comes with Huawei's ais_bench tools, as a wheel for one Python and one "
            f"architecture or to be built on the host (docs/atlas.md says how); {ON_THE_CPU}"
        ) from error
    except ImportError as error:  # libascend_hal.so and its like
        raise BadDevice(
            f"aclruntime cannot be loaded ({error}): the driver's libraries are not here, not mounted into the container, "
            f"or not on LD_LIBRARY_PATH, or set_env.sh was not sourced; {ON_THE_CPU}"
        ) from error
    return aclruntime


def is_newer(library: Any) -> bool:
    """Whether it is of the generation of 2024; both call themselves 0.0.2."""
    return hasattr(library.InferenceSession, "free_resource")


class AscendEmbedder:
    """One or more OMs of one variant on one chip; made, used and closed in one thread."""

    def __init__(self, files: Sequence[OmFile], fingerprint: str, dim: int, chip: int, library: Any) -> None:
        """Load the OMs. Raises BadDevice for one that does not fit, DeviceLost where chip or memory fail."""
        self.fingerprint, self.dim = fingerprint, dim
        self.last_run: RunTimes | None = None
        self._library = library
        # Contexts of the older generation belong to the thread that made the session.
        self._thread = threading.get_ident()
        self._sessions: list[Any] = []
        self._of_size: dict[int, _Om] = {}
        try:
            for file in files:
                self._sessions.append(_load(file, chip, library))
                model = _Om(file, dim, self._sessions[-1], library)
                self._of_size |= dict.fromkeys(file.sizes, model)
        except BaseException:
            self.close()
            raise
        self.batch_sizes = tuple(sorted(self._of_size))

    def embed(self, crops: Crops) -> Floats:
        """n crops uint8 [256, 128, 3] to raw float32 [n, dim]; the next compiled size is run, its rest holds padding."""
        if threading.get_ident() != self._thread:
            raise RuntimeError("an NPU's session is used in the thread that made it")
        count = len(crops)
        size = next((size for size in self.batch_sizes if size >= count), None)
        if size is None or count == 0:
            raise ValueError(f"{count} crops; the OMs take 1 to {self.batch_sizes[-1]}")
        vectors, self.last_run = self._of_size[size].run(crops, size)
        return vectors[:count]

    def close(self) -> None:
        """Free every session, then end ACL in this process, for good. Outputs are gone already: they need their context."""
        sessions, self._sessions, self._of_size = self._sessions, [], {}
        if is_newer(self._library):
            for session in sessions:
                _check(session.free_resource(), "free_resource")
            _check(self._library.InferenceSession.finalize(), "finalize")
        elif sessions:  # of the older one, any session ends ACL for all; without one it was never started
            del sessions[:-1]  # what frees them
            _check(sessions[-1].finalize(), "finalize")


def _load(file: OmFile, chip: int, library: Any) -> Any:
    """A session. Raises BadDevice, DeviceLost."""
    options = library.session_options()
    options.log_level = _ERRORS_ONLY
    try:
        return library.InferenceSession(str(file.path), chip, options)  # it takes no keywords
    except RuntimeError as error:
        raise failure(code_of(error), f"{file.path.name} on chip {chip}") from error


class _Om:
    """A session, checked against what the manifest says of its OM."""

    def __init__(self, file: OmFile, dim: int, session: Any, library: Any) -> None:
        self.file, self._dim, self.session, self._library = file, dim, session, library
        self._input_code, dtype = _DTYPES[file.dtype]
        self._output = self._checked()
        # Reused by every run: padding, and the host's normalisation, are written into it.
        self._batch: npt.NDArray[Any] = np.zeros((file.sizes[-1], *_SHAPES[file.layout]), dtype)

    def run(self, crops: Crops, size: int) -> tuple[Floats, RunTimes]:
        """Vectors float32 [size, dim], those behind the crops' meaningless."""
        batch = self._fill(crops, size)
        try:
            if self.file.dynamic:  # always: it is remembered, and unset it is undefined
                self.session.set_dynamic_batchsize(size)
            self._check_size(batch)
            started = time.perf_counter()
            base = self._library.BaseTensor(batch.ctypes.data, batch.nbytes)
            (tensor,) = self.session.run([self._output], [base])
            tensor.to_host()  # before anything looks at it: unmoved, it is no array, or the end of the process
            vectors = np.array(tensor)
            copied_ms = (time.perf_counter() - started) * 1000
        except RuntimeError as error:
            # Our own checks have passed, so -1 is the device's; what failed has leaked its buffers.
            raise failure(code_of(error), f"{self.file.path.name}, batch {size}") from error
        if vectors.shape != (size, self._dim) or vectors.dtype != np.float32:
            raise DeviceLost(
                f"{self.file.path.name} gave {vectors.dtype} {vectors.shape}, not float32 {(size, self._dim)}"
            )
        if not np.isfinite(vectors[: len(crops)]).any():  # one crop's overflow is its own; this is the chip's
            raise DeviceLost(f"{self.file.path.name} gave no finite number for any of {len(crops)} crops")
        return vectors, RunTimes(self._execute_ms(), copied_ms)

    def _fill(self, crops: Crops, size: int) -> npt.NDArray[Any]:
        """The batch as the OM wants it: contiguous, alive while it runs, and of the bytes that were compiled in."""
        batch = self._batch[:size]
        if self.file.dtype == "float32":
            normalise(crops, out=batch[: len(crops)])
        elif isinstance(crops, np.ndarray) and len(crops) == size and crops.flags.c_contiguous:
            return crops  # pixels go to the device from where they lie
        else:
            for place, crop in zip(batch, crops, strict=False):
                place[...] = crop
        return batch

    def _check_size(self, batch: npt.NDArray[Any]) -> None:
        """The library compares nothing but bytes, and leaks when they differ."""
        wanted = int(self.session.get_inputs()[0].realsize)
        if batch.nbytes != wanted or batch.dtype != _DTYPES[self.file.dtype][1] or not batch.flags.c_contiguous:
            raise DeviceLost(f"{self.file.path.name} wants {wanted} bytes, the batch has {batch.nbytes} {batch.dtype}")

    def _execute_ms(self) -> float:
        """The last execution alone, as ais_bench counts it; then the lists, which grow with every run, are emptied."""
        last = self.session.sumary().exec_time_list[-1]
        self.session.reset_sumaryinfo()
        self._library.MemorySummary().reset()
        # A pair (start, end) in the newer generation, a duration in the older one.
        return float(last[1] - last[0]) if isinstance(last, tuple | list) else float(last)

    def _checked(self) -> str:
        """The output's name, once it is sure that this OM is what the manifest says. Raises BadDevice."""
        name, inputs, outputs = self.file.path.name, self.session.get_inputs(), self.session.get_outputs()
        if (len(inputs), len(outputs)) != (1, 1):
            raise BadDevice(f"{name} has {len(inputs)} inputs and {len(outputs)} outputs; one of each is needed")
        axis = -1 if self.file.dynamic else self.file.largest
        # Plain copies: a description is a view into the session, changes with it and ends with it.
        found = (int(inputs[0].datatype), tuple(int(n) for n in inputs[0].shape), int(inputs[0].size))
        shape = _SHAPES[self.file.layout]
        size_bytes = self.file.largest * HEIGHT * WIDTH * 3 * np.dtype(_DTYPES[self.file.dtype][1]).itemsize
        if found != (self._input_code, (axis, *shape), size_bytes):
            raise BadDevice(
                f"{name} takes type {found[0]}, shape {found[1]}, {found[2]} bytes; the manifest says "
                f"{self.file.dtype} {(axis, *shape)}, {size_bytes} bytes; build it again"
            )
        given = (int(outputs[0].datatype), tuple(int(n) for n in outputs[0].shape)[1:])
        if given != (_FLOAT32, (self._dim,)):
            raise BadDevice(f"{name} gives type {given[0]} {given[1]}; float32 ({self._dim},) is needed")
        return str(outputs[0].name)  # ATC's own, `<node>:0:output`, not the graph's


def _check(status: object, what: str) -> None:
    """Both answer with a number and raise nothing."""
    if status != 0:
        log.warning("aclruntime's %s answered %s", what, status)
