from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.core.preprocess import normalise
from model_build.checkpoint import hash_weights, read_checkpoint
from model_build.golden import draw_golden_crops
from model_build.made_up import made_up_network, save_made_up_checkpoint
from model_build.network import Architecture, ReidNetwork

SMALL = Architecture(4, (1, 2, 1, 1))


@pytest.mark.parametrize("depths", [(1, 1, 1, 1), (3, 4, 6, 3)])
def test_different_people_get_different_vectors(depths: tuple[int, int, int, int]) -> None:
    network = made_up_network(Architecture(4, depths))
    with torch.no_grad():
        vectors = network(torch.from_numpy(normalise(draw_golden_crops()))).numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(8, 1)]
    assert cosines.max() < 0.95
    assert cosines.max() - cosines.min() > 0.5


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (hash_weights(made_up_network(SMALL, seed).state_dict()) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_every_weight_matters_so_that_a_dropped_one_would_show(tiny_network: ReidNetwork) -> None:
    for module in tiny_network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            for tensor, default in (
                (module.weight, 1),
                (module.bias, 0),
                (module.running_mean, 0),
                (module.running_var, 1),
            ):
                assert tensor is not None
                assert (tensor != default).float().mean() > 0.8


def test_the_checkpoint_is_laid_out_as_the_published_one_and_says_what_it_is(tmp_path: Path) -> None:
    save_made_up_checkpoint(tmp_path / "new" / "made-up.ckpt", SMALL)
    content = torch.load(tmp_path / "new" / "made-up.ckpt", weights_only=True)
    assert content["state_dict"]["center_loss.centers"].shape == (702, 128)
    assert content["state_dict"]["fc_query.weight"].shape == (702, 128)
    assert content["hyper_parameters"]["MODEL"]["KEEP_CAMID_CENTROIDS"] is True
    weights = read_checkpoint(tmp_path / "new" / "made-up.ckpt")
    assert weights.architecture == SMALL
    assert weights.label == "made-up weights, meaningless vectors"
    assert weights.weights_sha256 == hash_weights(made_up_network(SMALL).state_dict())
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["made-up.ckpt"]
