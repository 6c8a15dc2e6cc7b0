"""ais_bench's handling of files, with ONNX Runtime in the NPU's place: what it reads, pads, names and writes.

Three generations differ in what is written beside the results:
- "2022": `ais_infer`, `sumary.json` in the run's folder, text appended to a file that is there
- "2023": `ais_bench`, `<run>_summary.json` beside the run's folder; with several devices the same for `<run>/device0`
- "2024": the same, with folders `device0_0`
[Ascend/tools: ais_infer of 2022, ais_bench/infer/__main__.py, io_oprations.py, utils.py, summary.py of 2023-06;
Ascend/msit: ais_bench/infer/benchmark_process.py of 2023 and 2024. Written from reading, none of it copied.]
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime

Format = Literal["BIN", "NPY", "TXT"]
Generation = Literal["2022", "2023", "2024"]
RUN = "2023_01_05-10_11_12"
_PAD = None  # stands for the batch's first file; its results are not written


def ais_bench(
    model: Path,
    source: Path,
    output: Path,
    outfmt: Format = "BIN",
    generation: Generation = "2023",
    run: str = RUN,
    devices: Sequence[int] = (0,),
) -> Path:
    """Run every .bin and .npy of a folder through a fixed-batch ONNX; the run's folder."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    files = natural_sort(f"{source}/{path.name}" for path in source.iterdir() if path.suffix in (".bin", ".npy"))
    size = math.ceil(len(files) / len(devices))
    for index, device in enumerate(devices):
        folder = output / run
        if len(devices) > 1:
            folder /= f"device{device}_{index}" if generation == "2024" else f"device{device}"
        folder.mkdir(parents=True, exist_ok=True)
        filesinfo = _infer(session, files[index * size : (index + 1) * size], folder, outfmt, generation)
        summary = folder / "sumary.json" if generation == "2022" else Path(f"{folder}_summary.json")
        summary.write_text(json.dumps({"filesinfo": filesinfo, "args": ["ais_bench"], "throughput": 0, "pid": 1}))
    return output / run


def _infer(
    session: onnxruntime.InferenceSession, files: Sequence[str], folder: Path, outfmt: Format, generation: Generation
) -> dict[str, dict[str, list[str]]]:
    """Batches of files through the session; the summary's `filesinfo`."""
    wanted = session.get_inputs()[0].shape
    tensor_bytes = math.prod(wanted) * 4
    file_bytes = Path(files[0]).stat().st_size
    if tensor_bytes % file_bytes:
        raise RuntimeError(f"arg0 tensorsize: {tensor_bytes} filesize: {file_bytes} not match")
    batch = tensor_bytes // file_bytes
    filesinfo: dict[str, dict[str, list[str]]] = {}
    for start in range(0, len(files), batch):
        real = files[start : start + batch]
        padded: list[str | None] = [*real, *[_PAD] * (batch - len(real))]
        tensor = np.concatenate([np.fromfile(name or real[0], dtype="<f4") for name in padded]).reshape(wanted)
        for number, result in enumerate(session.run(None, {"input": tensor})):
            for position, (name, rows) in enumerate(zip(padded, np.array_split(result, batch), strict=True)):
                if name is _PAD:
                    continue
                stem = name.rpartition("/")[2].split(".")[0]
                written = folder / f"{stem}_{number}.{outfmt.lower()}"
                save(written, rows, appending=generation == "2022")
                info = filesinfo.setdefault(str(start + position), {"infiles": [name], "outfiles": []})
                info["outfiles"].append(str(written))
    return filesinfo


def save(path: Path, rows: np.ndarray, appending: bool = False) -> None:
    """One result in the form that its ending names."""
    if path.suffix == ".npy":
        np.save(path, rows)
    elif path.suffix == ".txt":
        with path.open("a" if appending else "w") as file:
            for row in rows.reshape(-1, rows.shape[-1]):
                file.write("".join(f"{value:f} " for value in row) + "\n")
    else:
        rows.astype("<f4").tofile(path)


def natural_sort(names: Iterable[str]) -> list[str]:
    """`a2` before `a10`."""

    def key(name: str) -> list[tuple[bool, int, str]]:
        parts = re.split(r"(\d+)", name)
        return [(not part.isdigit(), int(part) if part.isdigit() else 0, part.lower()) for part in parts]

    return sorted(names, key=key)
