"""What tests of several parts share."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

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


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts `reid serve` with the options given; whatever still runs at the end of the test is killed."""
    running: list[Server] = []

    def start(*arguments: str) -> Server:
        running.append(Server(*arguments))
        return running[-1]

    yield start
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
