"""What tests of several parts share."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.server import Server


@pytest.fixture(scope="session")
def tiny_model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory as `model_build export` writes it, of a tiny network (128 values a vector, under 1 MB).

    Its weights are made up, its vectors mean nothing; different crops do give different ones. Read only: a test that
    damages it makes a copy first.
    """
    import torch

    from model_build.build import Options, build
    from model_build.checkpoint import read_checkpoint
    from model_build.made_up import save_made_up_checkpoint
    from model_build.network import Architecture

    torch.set_num_threads(1)  # more threads only wait for each other over so small a network
    folder = tmp_path_factory.mktemp("tiny")
    save_made_up_checkpoint(folder / "tiny.ckpt", Architecture(width=4, depths=(1, 1, 1, 1)))
    weights = read_checkpoint(folder / "tiny.ckpt")
    build(weights, folder / "model", Options(batch_sizes=(1, 4)), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    return folder / "model"


@pytest.fixture(scope="session")
def fast_model_directory(tiny_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model directory with onnx-int8 and OpenVINO's variants beside; without openvino-bf16 where the CPU lacks it.

    Made-up weights tell nobody from anybody, so that nothing is asked of what they lose.
    """
    from app.demo.dataset import Recipe, write_folder
    from app.errors import BadDevice
    from model_build.agreement import Bounds
    from model_build.derive import Comparison, add_int8, add_openvino
    from model_build.labelled import DRAWN, drawn
    from model_build.quantize import read_sample

    folder, recipe = tmp_path_factory.mktemp("fast"), Recipe(seed=3, persons=8, distractors=4, cameras=3)
    shutil.copytree(tiny_model_directory, folder / "model")
    write_folder(recipe, folder / "data")
    comparison = Comparison(drawn(recipe), DRAWN, Bounds(cosine_mean=0.99, loss=1))
    add_int8(folder / "model", read_sample(folder / "data" / "bounding_box_test"), "percentile", comparison)
    add_openvino(folder / "model", "fp32", comparison)
    with suppress(BadDevice):
        add_openvino(folder / "model", "bf16", comparison)
    return folder / "model"


@pytest.fixture(scope="session")
def om_model_directory(tiny_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model directory with OMs beside, made by the stand-in `atc`: static and dynamic, floats and AIPP."""
    from model_build.compile import Workshop, compile_directory
    from model_build.plan import CompileOptions
    from model_build.toolkit import find_toolkit
    from tests import standins

    folder = tmp_path_factory.mktemp("om")
    shutil.copytree(tiny_model_directory, folder / "model")
    toolkit = find_toolkit(standins.environment(folder))
    for aipp in (False, True):
        for dynamic in (False, True):
            sizes = (2, 8) if dynamic else (1, 4)
            options = CompileOptions("Ascend310P3", sizes, aipp, dynamic)
            compile_directory(folder / "model", Workshop(options, toolkit, folder / "model", say=lambda _: None))
    return folder / "model"


@pytest.fixture
def atlas_host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that this process runs on an Atlas host; takes the switches of the stand-ins (acl=, atc=, npu_smi=)."""
    from tests import standins

    def pretend(**switches: Any) -> None:
        for name, value in standins.environment(**switches).items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(standins.SITE)

    return pretend


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts `reid serve` with the options given; whatever still runs at the end of the test is killed."""
    running: list[Server] = []

    def start(*arguments: str, environment: Mapping[str, str] | None = None) -> Server:
        running.append(Server(*arguments, environment=environment))
        return running[-1]

    yield start
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
