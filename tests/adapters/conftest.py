"""What the tests of the NPU's adapter share."""

import tempfile
from pathlib import Path

import pytest

from app.adapters.model_directory import ModelDirectory


@pytest.fixture
def directory(om_model_directory: Path) -> ModelDirectory:
    """The tiny network's OMs."""
    return ModelDirectory.open(om_model_directory)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where workers make their folders."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"
