"""The stand-in's OM: one line of JSON that says what `atc` was told, then the ONNX itself. Standard library only.

A real OM is as self-contained, and keeps the same provenance; everything else about it is Huawei's own.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

MAGIC = "stand-in om 1"


class NotAnOm(ValueError):
    """The file was not written by the `atc` stand-in."""


@dataclass(frozen=True)
class Header:
    """What the OM says of itself. Shapes are those of the input as `run` wants it; a dynamic batch axis is -1."""

    input_name: str
    input_shape: list[int]
    dtype: str  # float32 or uint8
    layout: str  # NCHW or NHWC
    output_name: str  # <node>:<index>:<name in ONNX>
    output_onnx: str
    output_shape: list[int]
    gears: list[int]  # ascending; empty for a fixed batch
    soc_version: str
    cann_version: str
    precision_mode: str
    atc_cmdline: str
    weight_size: int
    memory_size: int
    aipp: dict[str, str] | None = None

    @property
    def largest_batch(self) -> int:
        """The batch that buffers are made for."""
        return self.gears[-1] if self.gears else self.input_shape[0]


def write(path: Path, header: Header, onnx: bytes) -> None:
    """Readable by its owner alone, as real ones were seen to be."""
    line = json.dumps({"magic": MAGIC, **dataclasses.asdict(header)})
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(line.encode() + b"\n" + onnx)


def read(path: Path) -> tuple[Header, bytes]:
    """The header and the ONNX. Raises NotAnOm, OSError."""
    line, _, onnx = path.read_bytes().partition(b"\n")
    try:
        facts = json.loads(line)
        if facts.pop("magic") != MAGIC:
            raise NotAnOm(path.name)
        return Header(**facts), onnx
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise NotAnOm(path.name) from error
