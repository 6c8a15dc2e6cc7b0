"""A full-size model to measure with: made-up weights in the published layout, exported and quantised as any checkpoint is.

Speed does not depend on what the weights are. Agreement does: what int8 costs in accuracy is not to be read off this model.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from app.adapters.model_directory import ModelDirectory
from app.core.manifest import MANIFEST_FILE
from app.demo.dataset import Recipe, write_folder
from tests.server import ROOT

MADE_UP = ROOT / "build" / "load" / "model"
_ANY_LOSS = ("--max-loss", "1")
_FEW = Recipe(seed=1, persons=6, distractors=0)


def made_up_model(variant: str, folder: Path = MADE_UP) -> Path:
    """The directory with this variant; made where it is missing, which needs torch."""
    with tempfile.TemporaryDirectory() as temporary:
        if not (folder / MANIFEST_FILE).exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            checkpoint = f"{temporary}/made-up.ckpt"
            _model_build("made-up-checkpoint", "--output", checkpoint)
            _model_build("export", "--checkpoint", checkpoint, "--output", str(folder), "--batch-sizes", "none")
        if variant not in ModelDirectory.open(folder).manifest.variants:
            _add(variant, folder, Path(temporary) / "drawn")
    return folder


def _add(variant: str, folder: Path, drawn: Path) -> None:
    """Another variant of it. Raises ValueError for one that no command makes."""
    write_folder(_FEW, drawn)
    labelled = ("--labelled", str(drawn), *_ANY_LOSS)
    match variant:
        case "onnx-int8":
            calibration = ("--calibration", str(drawn / "bounding_box_test"), "--crops", "32")
            _model_build("quantize", str(folder), *calibration, *labelled)
        case "openvino-bf16" | "openvino-fp32":
            _model_build("openvino", str(folder), "--precision", variant.removeprefix("openvino-"), *labelled)
        case _:
            raise ValueError(
                f"there is no command that makes {variant}; name a model directory that has it with --model"
            )


def _model_build(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "model_build", *arguments], check=True, cwd=ROOT, stdout=sys.stderr)
