"""The pretended NPU as the adapter's tests use it."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.adapters.ascend import open_variant
from app.adapters.model_directory import ModelDirectory
from app.adapters.worker import Deadlines, WorkerEmbedder

Pretend = Callable[..., None]
CROPS = np.random.default_rng(5).integers(0, 256, (11, 256, 128, 3), dtype=np.uint8)
both_generations = pytest.mark.parametrize("generation", ["new", "old"])


def opened(
    directory: ModelDirectory, *sizes: int, variant: str = "om-fp16", deadlines: Deadlines = Deadlines()
) -> "closing[WorkerEmbedder]":
    return closing(open_variant(directory, variant, 0, sizes, deadlines))


def fault(at: str, **more: Any) -> dict[str, Any]:
    return {"faults": [{"at": at, **more}]}


def swapped(directory: ModelDirectory, tmp_path: Path, put: str, in_place_of: str) -> ModelDirectory:
    """A directory in which one OM lies under another's name, and the manifest does not know."""
    shutil.copytree(directory.path, tmp_path / "model")
    shutil.copyfile(directory.path / put, tmp_path / "model" / in_place_of)
    return ModelDirectory(tmp_path / "model", directory.manifest)
