"""Made-up weights of any size, for trying the whole path without a trained checkpoint. Their vectors mean nothing.

Plain He-normal weights give every picture the same answer (cosine 0.998 and above). Three measures part them: each
filter minus its own mean, so that flat areas do not dominate; the last norm of each block at 0.2, so that depth does
not blow the scale up; and the neck's running mean near the pooled feature's measured mean. All statistics and the
neck's bias get odd values besides, so that a loader that drops one of them is caught by a comparison of vectors.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.core.preprocess import normalise
from app.files import whole_file
from model_build.golden import draw_golden_crops
from model_build.network import Architecture, Bottleneck, ReidNetwork

LABEL = "made-up weights, meaningless vectors"
PERSONS = 702  # identities in the published checkpoint's training set: rows of its two unused matrices


def made_up_network(architecture: Architecture, seed: int = 1) -> ReidNetwork:
    """The network with deterministic made-up weights, in eval mode."""
    rng = np.random.default_rng(seed)
    network = ReidNetwork(architecture).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                _fill_filters(rng, module)
            elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                _fill_norm(rng, module)
        for module in network.modules():
            if isinstance(module, Bottleneck):
                module.bn3.weight.mul_(0.2)
        pooled = network.pooled(torch.from_numpy(normalise(draw_golden_crops())))
        _calibrate(rng, network.bn, pooled)
    return network


def save_made_up_checkpoint(path: Path, architecture: Architecture, seed: int = 1) -> None:
    """Write a checkpoint laid out as Lightning's, of tensors and plain values."""
    network = made_up_network(architecture, seed)
    rng = np.random.default_rng([seed, PERSONS])
    state: dict[str, Tensor] = dict(network.state_dict())
    for name in ("center_loss.centers", "fc_query.weight"):
        state[name] = _normal(rng, (PERSONS, architecture.dim), 0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save(lightning_shaped(state), file)


def lightning_shaped(state: dict[str, Tensor]) -> dict[str, Any]:
    """The top level of the published checkpoint around a state dict, with plain dicts for yacs' nodes."""
    return {
        "epoch": 120,
        "global_step": 15480,
        "pytorch-lightning_version": "1.1.4",
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "state_dict": state,
        "hparams_name": None,
        "hyper_parameters": {
            "MODEL": {"NAME": "resnet50", "LAST_STRIDE": 1, "USE_CENTROIDS": False, "KEEP_CAMID_CENTROIDS": True},
            "INPUT": {"SIZE_TRAIN": [256, 128], "SIZE_TEST": [256, 128]},
            "num_query": 2228,
            "num_classes": PERSONS,
            "label": LABEL,
        },
    }


def _fill_filters(rng: np.random.Generator, module: nn.Conv2d) -> None:
    inputs = module.weight[0].numel()
    filters = _normal(rng, tuple(module.weight.shape), (2 / inputs) ** 0.5)
    module.weight.copy_(filters - filters.mean(dim=(1, 2, 3), keepdim=True))


def _fill_norm(rng: np.random.Generator, module: nn.BatchNorm2d | nn.BatchNorm1d) -> None:
    shape = tuple(module.weight.shape)
    module.weight.copy_(_uniform(rng, shape, 0.8, 1.2))
    module.bias.copy_(_normal(rng, shape, 0.1))
    assert module.running_mean is not None  # both kinds track statistics
    assert module.running_var is not None
    module.running_mean.copy_(_normal(rng, shape, 0.1))
    module.running_var.copy_(_uniform(rng, shape, 0.5, 1.5))


def _calibrate(rng: np.random.Generator, neck: nn.BatchNorm1d, pooled: Tensor) -> None:
    """Centre the neck on the features it will see. Rounded, so that another machine's last bits change no weight."""
    spread = float(f"{pooled.std(dim=0).mean().item():.2g}")
    assert neck.running_mean is not None  # as above
    assert neck.running_var is not None
    neck.running_mean.copy_((pooled.mean(dim=0) / (spread / 4)).round() * (spread / 4))
    neck.running_var.copy_(spread**2 * _uniform(rng, tuple(neck.running_var.shape), 0.5, 1.5))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * np.float32(scale))


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32))
