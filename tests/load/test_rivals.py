"""The comparison is of the same thing, and its ratios are the ones it says."""

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.adapters.model_directory import ModelDirectory
from app.adapters.onnx import OnnxEmbedder
from app.core.preprocess import decode
from tests.load.calls import drawn_jpegs, form_call
from tests.load.rivals.network import Network
from tests.load.rivals.phases import NEIGHBOUR, OPEN, Rounds, check_equal
from tests.load.rivals.plain import create_app
from tests.load.run import Load, Run
from tests.load.samples import Sample, Taken


def test_the_plain_handler_gives_the_vectors_that_our_embedder_gives(tiny_model_directory: Path) -> None:
    directory = ModelDirectory.open(tiny_model_directory)
    onnx = directory.artefact("onnx-fp32")
    jpeg = drawn_jpegs()[0]
    call = form_call("/v1/embeddings", jpeg)
    with TestClient(create_app(Network(str(onnx), threads=1))) as client:
        answer = client.post(call.path, content=call.body, headers=dict(call.headers))
    embedder = OnnxEmbedder(onnx, "ours", directory.manifest.dim, threads=1)
    raw = embedder.embed(decode(jpeg, "crop")[None])[0]
    embedder.close()
    assert check_equal("plain", np.array(answer.json()["vectors"]), raw[None] / np.linalg.norm(raw)) < 1e-6


def test_servers_that_compute_something_else_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"other vectors than reid: 0.001 apart"):
        check_equal("other", np.array([[0.6, 0.801]]), np.array([[0.6, 0.8]]))
    with pytest.raises(ValueError, match="nan apart"):
        check_equal("other", np.array([[np.nan, 0.8]]), np.array([[0.6, 0.8]]))


def run(per_s: float, latency_s: float) -> Run:
    """So many answers in one second, all as late."""
    samples = tuple(Sample(0.5 - latency_s, 0.5 - latency_s, 0.5) for _ in range(int(per_s)))
    return Run("server", Load("embeddings", 8), Taken(samples, ((0.0, 1.0),)), (), ())


def test_ratios_are_to_the_best_rival_of_each_round_and_the_median_of_the_rounds_counts() -> None:
    def phases(closed: float, open_ms: float) -> dict[str, Run]:
        return {"8 clients": run(closed, 0.1), OPEN: run(10, open_ms / 1000), NEIGHBOUR: run(closed / 2, 0.1)}

    rounds = Rounds(
        [100, 100, 50],
        {
            "reid": [phases(90, 50), phases(96, 60), phases(48, 50)],
            "LitServe": [phases(60, 100), phases(80, 100), phases(40, 125)],
            "FastAPI handler": [phases(72, 200), phases(64, 120), phases(20, 200)],
        },
    )
    found = {figure.name: figure.value for figure in rounds.figures()}
    assert found["reid over pure, 8 clients"] == pytest.approx(0.96)  # of 0.90, 0.96, 0.96
    assert found["LitServe over pure, 8 clients"] == pytest.approx(0.8)  # of 0.6, 0.8, 0.8
    assert found["reid over the best rival, 8 clients"] == pytest.approx(1.2)  # 90/72 = 1.25, 96/80 = 1.2, 48/40 = 1.2
    assert found[f"p50 of reid over the best rival, {OPEN}"] == pytest.approx(0.5)  # 50/100, 60/100, 50/125 = 0.4
