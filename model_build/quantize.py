"""A float graph to an int8 one with ONNX Runtime's own tools: static, QDQ, uint8 activations, int8 weights per channel.

int8 activations would run at half the speed on x86, whose instruction multiplies unsigned by signed bytes. What lies behind the
last convolution (pooling, neck) stays in float: it costs nothing, and rounding there goes straight into the vector.
Same graph, same crops, same method: same bytes, for one version of the tools.
"""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from onnx import version_converter

# Before ONNX Runtime, which it keeps from reporting to its maker.
import app.adapters.onnx  # noqa: F401

# isort: split
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from app.core.manifest import Quantized, Tensor
from app.core.preprocess import Crop, decode, normalise
from app.core.records import pictures
from app.errors import BadImage, BadInput, TooLarge
from model_build.graph import load, save

Method = Literal["percentile", "minmax"]
PERCENTILE = 99.999  # ONNX Runtime's own. 99.99 cut the demo model's ranges so that the lowest cosine fell by 0.02
OPSET = 13  # the first whose DequantizeLinear takes a scale for each channel
QUANTIZED = ("Conv", "Relu", "Add", "MaxPool")
# Crops at a time: the tools keep what every layer gave for them, 74 MiB a crop at the published network's size.
STRIDE = 8
FEWEST, MOST = 2 * STRIDE, 256  # the demo model's mean cosine: 0.9973 with ranges told from 64 crops, 0.9974 from 256
# Key and value by which the tools know a graph that needs none of their folding: `export` has done it.
PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """The crops uint8 [n, 256, 128, 3] by which ranges are told, n a multiple of STRIDE."""

    crops: npt.NDArray[np.uint8]

    def fact(self, method: Method) -> Quantized:
        """What the manifest says of it."""
        return Quantized(
            method=method,
            percentile=PERCENTILE if method == "percentile" else None,
            crops=len(self.crops),
            crops_sha256=hashlib.sha256(self.crops.tobytes()).hexdigest(),
            tool=f"onnxruntime {version('onnxruntime')}",
        )


def read_sample(folder: Path, most: int = MOST, say: Say = lambda _: None) -> Sample:
    """At most so many of a folder's pictures, as the network sees them. Raises BadInput for a folder with too few.

    They are taken in the order of their contents' hashes, so that neither names nor numbering tell which, and a copy of a
    folder gives the same ones. What is no sound picture is said and left out.
    """
    try:
        names, _ = pictures(entry.name for entry in folder.iterdir() if entry.is_file())
        by_hash = {hashlib.sha256((folder / name).read_bytes()).digest(): name for name in names}
        crops = list(_decode([folder / by_hash[digest] for digest in sorted(by_hash)], most, say))
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error.strerror}") from error
    if len(crops) < FEWEST:
        raise BadInput(f"{folder} has {len(crops)} different pictures; at least {FEWEST} are needed to tell ranges")
    return Sample(np.stack(crops[: len(crops) - len(crops) % STRIDE]))


def _decode(paths: Sequence[Path], most: int, say: Say) -> Iterator[Crop]:
    taken = 0
    for path in paths:
        if taken == most:
            return
        try:
            yield decode(path.read_bytes(), path.name)
            taken += 1
        except (BadImage, TooLarge) as error:
            say(f"left out: {error}")


def quantize(
    source: Path, target: Path, wanted: Tensor, sample: Sample, method: Method, beat: Callable[[], None] = lambda: None
) -> None:
    """Write the int8 graph of a float one. wanted: the graph's input. beat: called for each crop."""
    with tempfile.TemporaryDirectory(prefix="quantize-", dir=target.parent) as scratch:
        prepared, made = Path(scratch) / "float.onnx", Path(scratch) / "int8.onnx"
        graph = version_converter.convert_version(load(source), OPSET)
        graph.metadata_props.add(key=PREPARED[0], value=PREPARED[1])
        save(graph, prepared)
        with redirect_stdout(io.StringIO()):  # the tools print what they are about to do
            quantize_static(
                str(prepared),
                str(made),
                _Reader(wanted.name, sample.crops, beat),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile if method == "percentile" else CalibrationMethod.MinMax,
                extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": STRIDE},
            )
        graph = load(made)
    graph.producer_name, graph.producer_version = "reid-service", ""
    del graph.metadata_props[:]
    save(graph, target)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the tools have no types
    """Hands the crops to the tools one by one, as the serving path normalises them."""

    def __init__(self, name: str, crops: npt.NDArray[np.uint8], beat: Callable[[], None]) -> None:
        self._name, self._crops, self._beat = name, crops, beat
        self._left: Iterator[npt.NDArray[np.uint8]] = iter(())

    def __len__(self) -> int:
        return len(self._crops)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._crops[start_index:end_index])

    def get_next(self) -> Mapping[str, npt.NDArray[np.float32]] | None:
        crop = next(self._left, None)
        if crop is None:
            return None
        self._beat()
        return {self._name: normalise(crop[None])}
