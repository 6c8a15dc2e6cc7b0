"""The whole path once at the published network's size, with made-up weights."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import onnx
import pytest

from model_build.build import Options, build
from model_build.checkpoint import read_checkpoint
from model_build.made_up import save_made_up_checkpoint
from model_build.network import Architecture


@pytest.mark.slow
@pytest.mark.timeout(300)  # seconds when alone; a busy machine is not a failure
def test_the_full_network_survives_checkpoint_export_and_onnx_runtime(tmp_path: Path) -> None:
    save_made_up_checkpoint(tmp_path / "made-up.ckpt", Architecture())
    weights = read_checkpoint(tmp_path / "made-up.ckpt")
    assert len(weights.state) == 323  # the published checkpoint's 325 less the two that serving leaves out
    built = build(weights, tmp_path / "model", Options(batch_sizes=(4,)), datetime(2026, 1, 1, tzinfo=UTC))
    figures = built.directory.manifest.verification["onnx-fp32"]
    assert figures.relative_difference <= 1e-4
    assert figures.cosine_min >= 0.999999
    for file in ("model.onnx", "model_bs4.onnx"):
        counts = Counter(node.op_type for node in onnx.load(tmp_path / "model" / file).graph.node)
        assert (counts["Conv"], counts["Relu"], counts["Add"]) == (53, 48, 16)
        assert 93_900_000 < (tmp_path / "model" / file).stat().st_size < 94_100_000  # the reference's: 93,988,564
