"""A full-size model to measure with: made-up weights in the published layout, exported as any checkpoint is."""

import subprocess
import sys
import tempfile
from pathlib import Path

from app.core.manifest import MANIFEST_FILE
from tests.server import ROOT

MADE_UP = ROOT / "build" / "load" / "model"


def made_up_model(folder: Path = MADE_UP) -> Path:
    """The directory; made where it is missing, which needs torch. Speed does not depend on what the weights are."""
    if not (folder / MANIFEST_FILE).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            checkpoint = f"{temporary}/made-up.ckpt"
            _model_build("made-up-checkpoint", "--output", checkpoint)
            _model_build("export", "--checkpoint", checkpoint, "--output", str(folder), "--batch-sizes", "none")
    return folder


def _model_build(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "model_build", *arguments], check=True, cwd=ROOT, stdout=sys.stderr)
