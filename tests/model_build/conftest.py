"""A tiny network of the product's architecture (width 4, one bottleneck a stage, 128 values) and files made of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model_build.checkpoint import Weights, read_checkpoint
from model_build.made_up import lightning_shaped, made_up_network
from model_build.network import Architecture, ReidNetwork

TINY = Architecture(width=4, depths=(1, 1, 1, 1))

torch.set_num_threads(1)  # for tiny tensors the hand-over costs more than the sums, and on a busy machine a hundredfold


@pytest.fixture(scope="session")
def tiny_network() -> ReidNetwork:
    """Made-up weights; not to be changed."""
    return made_up_network(TINY)


@pytest.fixture
def tiny_state(tiny_network: ReidNetwork) -> dict[str, Tensor]:
    """A copy of its state dict, to do with as one likes."""
    return {name: tensor.clone() for name, tensor in tiny_network.state_dict().items()}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Weights]:
    """Save an object with torch.save and read it as a checkpoint named given.ckpt."""

    def save_and_read(content: Any) -> Weights:
        torch.save(content, tmp_path / "given.ckpt")
        return read_checkpoint(tmp_path / "given.ckpt")

    return save_and_read


@pytest.fixture
def tiny_weights(tiny_state: dict[str, Tensor], read: Callable[[Any], Weights]) -> Weights:
    """The network as it comes out of a checkpoint."""
    return read(lightning_shaped(tiny_state))
