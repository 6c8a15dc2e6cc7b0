from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from app.core.preprocess import normalise
from model_build.checkpoint import expected_shapes
from model_build.golden import draw_golden_crops
from model_build.network import Architecture, ReidNetwork

KEYS = Path(__file__).with_name("checkpoint_keys.tsv")  # the published DukeMTMC checkpoint's entries, all 325 of them
FULL = Architecture()


def published() -> dict[str, tuple[int, ...]]:
    rows = [line.split("\t") for line in KEYS.read_text().splitlines()[1:]]
    return {name: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for name, shape, _ in rows}


def test_the_full_network_has_the_published_keys_and_shapes_and_no_other() -> None:
    wanted = published()
    assert wanted.pop("center_loss.centers") == wanted.pop("fc_query.weight") == (702, 2048)
    assert expected_shapes(FULL) == wanted


def test_the_full_network_has_23_5_million_parameters() -> None:
    with torch.device("meta"):
        network = ReidNetwork(FULL)
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_512_128
    assert FULL.dim == 2048


def test_the_last_map_is_16_by_8() -> None:
    with torch.device("meta"):
        assert ReidNetwork(FULL).eval().backbone.base(torch.empty(1, 3, 256, 128)).shape == (1, 2048, 16, 8)


def test_the_stem_lets_negative_values_through(tiny_network: ReidNetwork) -> None:
    seen: list[Tensor] = []
    hook = tiny_network.backbone.base.maxpool.register_forward_hook(
        lambda _, inputs, output: seen.extend((*inputs, output))
    )
    with torch.no_grad():
        tiny_network(torch.from_numpy(normalise(draw_golden_crops()[:1])))
    hook.remove()
    before, after = seen
    assert before.min() < 0
    assert after.min() < 0
    assert torch.equal(after, nn.functional.max_pool2d(before, 3, 2, 1))


def test_the_output_is_not_normalised_and_twice_the_neck_is_twice_the_output(tiny_network: ReidNetwork) -> None:
    crops = torch.from_numpy(normalise(draw_golden_crops()[:2]))
    doubled = ReidNetwork(tiny_network.architecture).eval()
    doubled.load_state_dict(tiny_network.state_dict())
    with torch.no_grad():
        doubled.bn.weight.mul_(2)
        doubled.bn.bias.mul_(2)
        assert torch.allclose(doubled(crops), 2 * tiny_network(crops))
        norms = tiny_network(crops).norm(dim=1)
    assert ((norms < 0.9) | (norms > 1.1)).all()


def test_the_output_is_the_neck_of_the_pooled_feature(tiny_network: ReidNetwork) -> None:
    crops = torch.from_numpy(normalise(draw_golden_crops()[:2]))
    with torch.no_grad():
        assert torch.equal(tiny_network(crops), tiny_network.bn(tiny_network.pooled(crops)))


def test_the_network_agrees_with_a_second_implementation_in_numpy(tiny_network: ReidNetwork) -> None:
    crops = normalise(draw_golden_crops()[:2])
    state = {name: tensor.numpy().astype(np.float64) for name, tensor in tiny_network.state_dict().items()}
    slow = np.stack([slow_vector(state, crop.astype(np.float64)) for crop in crops])
    with torch.no_grad():
        fast = tiny_network(torch.from_numpy(crops)).numpy()
    assert np.abs(fast - slow).max() < 1e-5 * np.abs(slow).max()


# The second implementation: float64, one crop, straight from the description of the architecture.

Array = npt.NDArray[np.float64]


def slow_vector(state: dict[str, Array], crop: Array) -> Array:
    base = "backbone.base."
    x = norm(state, base + "bn1", convolve(crop, state[base + "conv1.weight"], stride=2, pad=3))  # and no ReLU
    x = max_pool(x)
    for stage, stride in ((1, 1), (2, 2), (3, 2), (4, 1)):
        at = f"{base}layer{stage}.0."
        shortcut = norm(state, at + "downsample.1", convolve(x, state[at + "downsample.0.weight"], stride, 0))
        x = np.maximum(norm(state, at + "bn1", convolve(x, state[at + "conv1.weight"], 1, 0)), 0)
        x = np.maximum(norm(state, at + "bn2", convolve(x, state[at + "conv2.weight"], stride, 1)), 0)
        x = np.maximum(norm(state, at + "bn3", convolve(x, state[at + "conv3.weight"], 1, 0)) + shortcut, 0)
    return norm(state, "bn", x.mean(axis=(1, 2))[:, None, None])[:, 0, 0]


def convolve(x: Array, filters: Array, stride: int, pad: int) -> Array:
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, filters.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(filters, windows, axes=((1, 2, 3), (0, 3, 4)))


def norm(state: dict[str, Array], name: str, x: Array) -> Array:
    weight, bias, mean, variance = (
        state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def max_pool(x: Array) -> Array:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    return np.asarray(windows.max(axis=(3, 4)))
