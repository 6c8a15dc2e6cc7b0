"""A loaded OM: what it wants, and what it makes of it. ONNX Runtime does the sums, on one thread, in fp16's precision."""

import functools
import re
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tests.standins import aipp, om

Floats = npt.NDArray[np.float32]
HALF_MAX = 65504.0
# 0.2 % of every value: the cosine to the CPU is then about 1 - 0.002**2 / 2, and no two vectors are equal.
NOISE = 0.002
BYTES = {"float32": 4, "uint8": 1}
# ms a batch, from the guide's images/s (1542, 3715, 4287, 3454, 3571, 2231 at 1, 4, 8, 16, 32, 64).
GUIDE_MS = {1: 0.65, 4: 1.08, 8: 1.87, 16: 4.63, 32: 8.96, 64: 28.7}
COPY_BYTES_PER_S = 4e9  # an old log of the guide: 0.80 ms for the 3.1 MB of eight float32 crops


class Refused(ValueError):
    """The OM does not load here."""


class Model:
    """Raises Refused."""

    def __init__(self, path: str, soc: str, cann_version: str, saturates: bool) -> None:
        try:
            self.header, onnx = om.read(Path(path))
        except (OSError, om.NotAnOm) as error:
            raise Refused(f"load model from file failed: {error}") from error
        if self.header.soc_version != soc:
            raise Refused(f"the model was made for {self.header.soc_version}, the chip is {soc}")
        if _order(self.header.cann_version) > _order(cann_version):
            raise Refused(f"the model was made by {self.header.cann_version}, later than {cann_version}")
        self._saturates = saturates
        self._session = _session(onnx)

    @property
    def device_bytes(self) -> int:
        return self.header.weight_size + self.header.memory_size

    def crop_bytes(self) -> int:
        return int(np.prod(self.header.input_shape[1:])) * BYTES[self.header.dtype]

    def output_bytes(self) -> int:
        return int(np.prod(self.header.output_shape[1:])) * 4

    def execute(self, raw: bytes, batch: int, compute: str) -> Floats:
        """Whatever the bytes are, they are taken for the input."""
        header = self.header
        array = np.frombuffer(raw, dtype=header.dtype).reshape(batch, *header.input_shape[1:])
        if compute == "made-up":
            return _made_up(array, header.output_shape[1:])
        with np.errstate(all="ignore"):
            crops = self._half(_aipp(array, header.aipp) if header.aipp else array.astype(np.float32))
            (vectors,) = self._session.run([header.output_onnx], {header.input_name: crops})
            noise = np.random.default_rng(batch).standard_normal(vectors.shape[1:], dtype=np.float32)
            return self._half(cast(Floats, vectors) * (1 + NOISE * noise))

    def _half(self, values: Floats) -> Floats:
        """Rounded to fp16. The new generation sets the chip to saturate instead of overflowing."""
        if self._saturates:
            values = np.clip(values, -HALF_MAX, HALF_MAX)
        halves = values.astype(np.float16)
        return np.ascontiguousarray(halves, dtype=np.float32)


def execute_seconds(batch: int) -> float:
    """By the guide's table, straight lines between its rows and on beyond the last."""
    sizes, costs = list(GUIDE_MS), list(GUIDE_MS.values())
    if batch > sizes[-1]:
        return costs[-1] * batch / sizes[-1] / 1000
    return float(np.interp(batch, sizes, costs)) / 1000


def copy_seconds(size: int) -> float:
    return size / COPY_BYTES_PER_S


def _aipp(crops: npt.NDArray[np.uint8], fields: dict[str, str]) -> Floats:
    """(in - mean - min) * var_reci, the parameters in fp16; uint8 NHWC to float32 NCHW."""
    if fields.get("rbuv_swap_switch") == "true":  # before the sums, whose channels count after it
        crops = crops[..., ::-1]
    parameters = [np.array(aipp.normalise(fields, channel), dtype=np.float16) for channel in range(crops.shape[3])]
    mean, low, scale = np.array(parameters, dtype=np.float32).T
    values = (crops.astype(np.float32) - mean - low) * scale
    return cast(Floats, values.transpose(0, 3, 1, 2))


def _made_up(crops: npt.NDArray[np.generic], shape: list[int]) -> Floats:
    """Different crops, different vectors; the same crop, the same vector."""
    samples = crops.reshape(len(crops), -1)[:, ::4093].astype(np.float32)
    directions = _directions(samples.shape[1], int(np.prod(shape)))
    return np.ascontiguousarray((samples @ directions).reshape(len(crops), *shape))


@functools.cache  # drawn anew they would take longer than the run that they stand for
def _directions(samples: int, dim: int) -> Floats:
    return np.random.default_rng(0).standard_normal((samples, dim), dtype=np.float32)


def _session(onnx: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def _order(version: str) -> tuple[list[int], int, int]:
    """8.1.RC1 comes before 8.1 and after 8.0."""
    candidate = re.search(r"RC(\d+)", version, re.IGNORECASE)
    numbers = [int(part) for part in version.split(".") if part.isdigit()]
    return numbers, 0 if candidate else 1, int(candidate.group(1)) if candidate else 0
