"""InferenceSession in its two generations, session_options, and the timings."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tests.standins.acl import native
from tests.standins.acl.model import Floats, Model, Refused, copy_seconds, execute_seconds
from tests.standins.acl.process import GENERAL, INVALID, NO_COPY, NO_MEMORY, failure, the_process
from tests.standins.acl.tensors import BaseTensor, Tensor, dtype

FORMATS = {"NCHW": 0, "NHWC": 1, "ND": 2}
FLOAT_BYTES = 4


class session_options:  # noqa: N801  the binding's own name
    """log_level holds for the whole process."""

    __slots__ = ("acl_json_path", "log_level", "loop")

    def __init__(self) -> None:
        self.loop, self.log_level, self.acl_json_path = 1, 2, ""


class sumary:  # noqa: N801  sic
    """ms of every execution: numbers in the old generation, (start, end) in the new one."""

    def __init__(self, times: list[Any]) -> None:
        self.exec_time_list = times


class MemorySummary:
    """ms of every copy of the process."""

    H2D_time_list = property(lambda self: list(the_process().h2d_times))
    D2H_time_list = property(lambda self: list(the_process().d2h_times))

    def reset(self) -> None:
        the_process().h2d_times.clear()
        the_process().d2h_times.clear()


class Core:
    """A loaded model in its context. A session owns it; descs look at it."""

    def __init__(self, path: str, device: int, options: session_options) -> None:
        process = the_process()
        self.process, self.device, self.options = process, device, options
        process.log_level = options.log_level
        process.start()
        self.context = process.open(device)
        if process.passes("load", device):
            raise failure(INVALID, "aclmdlLoadFromFileWithMem failed")
        self.new = process.switches.generation == "new"
        try:
            self.model = Model(path, process.devices[device].soc, process.switches.cann_version, saturates=self.new)
        except Refused as refused:  # the new generation's context stays until finalize
            raise failure(INVALID, str(refused)) from None
        if not process.allocate(device, self.model.device_bytes, "model-memory"):
            raise failure(INVALID, "load model from file failed: no device memory")
        self.freed = self.unloaded = self.running = False
        self.gear: int | None = None
        self.real_batch = self.model.header.largest_batch
        self.exec_times: list[Any] = []
        self.began = time.perf_counter()
        process.counts.sessions_alive += 1
        process.note(f"open {device} {Path(path).name}")

    # --- what it says of itself

    def describe(self, is_input: bool) -> dict[str, Any]:
        header, model = self.model.header, self.model
        row = model.crop_bytes() if is_input else model.output_bytes()
        kind = header.dtype if is_input else "float32"
        return {
            "name": header.input_name if is_input else header.output_name,
            "datatype": dtype[kind],
            "format": FORMATS[header.layout] if is_input else FORMATS["ND"],
            "shape": header.input_shape if is_input else header.output_shape,
            "size": row * header.largest_batch,
            "realsize": row * self.real_batch,
        }

    # --- the gate that every call goes through

    def enter(self) -> None:
        """The new generation makes its context current; the old one takes what the thread has. Raises."""
        if self.freed:
            raise failure(INVALID, "the session's resources are freed")
        if os.getpid() != self.process.pid:
            raise failure(GENERAL, "ACL was started by the parent process; a forked child cannot use it")
        if self.new and self.context.alive:
            self.process.make_current(self.context)
        if self.process.current() is not self.context:
            raise failure(GENERAL, "no context of this session in this thread, errorCode = 107002")

    # --- running

    def run(self, names: Sequence[str], read: Callable[[], tuple[bytes, int]], owned: bool) -> list[Tensor]:
        """owned: the input buffer is the session's own and is freed on success; a failure leaks it."""
        if self.running:  # ACL forbids one model in two threads at once; here at least it is noticed
            raise failure(GENERAL, "the model is already executing in another thread")
        self.running = True
        try:
            raw, allocated = read()
            with self.process.lock:
                outputs = self._run(names, raw, leaks=allocated if owned else 0)
        finally:
            self.running = False
        if owned:
            self.process.release(self.device, allocated)
        self.process.ran()
        return outputs

    def _run(self, names: Sequence[str], raw: bytes, leaks: int) -> list[Tensor]:
        header = self.model.header
        if len(raw) != self.model.crop_bytes() * self.real_batch:
            wanted = self.model.crop_bytes() * self.real_batch
            self.fail(leaks, GENERAL, f"input size {len(raw)} is not the model's {wanted}")
        if any(name != header.output_name for name in names):
            self.fail(leaks, GENERAL, f"no output of the name {names}")
        size = self.model.output_bytes() * header.largest_batch
        made: list[int] = []
        for _ in names:
            if not self.process.allocate(self.device, size, "output-memory"):
                self.fail(leaks + sum(made), NO_MEMORY, "no device memory for an output")
            made.append(size)
        if header.gears and self.gear is None:
            self.fail(leaks + sum(made), GENERAL, "the batch size of a dynamic model is not set, errorCode = 145012")
        vectors = self._execute(raw, leaks + sum(made))
        return [Tensor._on_device(vectors.copy(), self.context, taken) for taken in made]

    def _execute(self, raw: bytes, leaks: int) -> Floats:
        vectors: Floats = np.empty(0, np.float32)
        for _ in range(self.options.loop):
            began = time.perf_counter()
            fault = self.process.due("execute", self.device)
            if self.process.devices[self.device].broken:
                self.fail(leaks, GENERAL, "aclmdlExecute failed: the device is in an error state")
            if fault and fault.kind == "error":
                self.break_down(raw, fault.code, leaks)
            self.process.happen(fault)
            vectors = self.model.execute(raw, self.real_batch, self.process.switches.compute)
            if fault and fault.kind == "nan":
                vectors[:] = np.nan
            cost = self.process.switches.speed * execute_seconds(self.real_batch)
            native.wait(began + cost - time.perf_counter())
            self._timed(began, time.perf_counter())
        if self.process.switches.noise:
            native.log("WARN", "made up by the stand-in at a run")
        return vectors

    def _timed(self, began: float, ended: float) -> None:
        self.process.counts.exec_times += 1
        start, end = 1000 * (began - self.began), 1000 * (ended - self.began)
        self.exec_times.append((start, end) if self.new else end - start)

    def break_down(self, raw: bytes, code: int, leaks: int) -> NoReturn:
        """A fault of the device: the exception callback dumps tensors, and the device answers nothing more."""
        if code // 100000 == 5:
            self.process.devices[self.device].broken = True
            for part, content in (("input", raw), ("output", b"\0" * 8)):
                Path(f"exception_cb_index_0_{part}_0_format_2_dtype_0.bin").write_bytes(content)
        self.fail(leaks, GENERAL, f"aclmdlExecute failed, modelId is 1, errorCode = {code}")

    def fail(self, leaks: int, code: int, cause: str) -> NoReturn:
        self.process.leak(leaks)
        raise failure(code, cause)

    # --- inputs

    def read_base_tensors(self, feeds: Sequence[BaseTensor]) -> tuple[bytes, int]:
        """Raw bytes from where the tensors point at this moment, and the device bytes taken for them."""
        _check_count(len(feeds))
        size = feeds[0].size
        if not self.process.allocate(self.device, size, "input-memory"):
            raise failure(GENERAL, "input size 0 is not the model's: no device memory")
        began = time.perf_counter()
        code = self.process.passes("h2d", self.device)
        if code:
            self.fail(size, NO_COPY, f"aclrtMemcpy failed, errorCode = {code}")
        raw = native.bytes_at(feeds[0].buf, size)
        native.wait(self.process.switches.speed * copy_seconds(size))
        self.process.h2d_times.append(1000 * (time.perf_counter() - began))
        return raw, size

    def read_tensors(self, feeds: Sequence[Tensor]) -> tuple[bytes, int]:
        """The pointer is handed on, wherever it points: a host pointer is the device's fault."""
        _check_count(len(feeds))
        raw = feeds[0]._values.tobytes()
        if feeds[0]._context is None and len(raw) == self.model.crop_bytes() * self.real_batch:
            self.break_down(raw, 507015, 0)
        return raw, 0

    # --- the end

    def unload(self) -> None:
        if not self.unloaded:
            self.unloaded = True
            self.process.release(self.device, self.model.device_bytes)
            self.process.counts.sessions_alive -= 1
            self.process.counts.exec_times -= len(self.exec_times)


def _check_count(count: int) -> None:
    if count == 0:
        raise failure(GENERAL, "no inputs")
    if count > 1:  # the binding reads on past the end of its list of inputs
        native.crash(signal.SIGSEGV)
