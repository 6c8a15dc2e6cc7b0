import random
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from app.errors import BadCheckpoint
from model_build.checkpoint import Weights, hash_weights, infer_architecture, read_checkpoint
from model_build.made_up import lightning_shaped, made_up_network
from model_build.network import Architecture, ReidNetwork

Read = Callable[[Any], Weights]


class CfgNode(dict[str, Any]):
    """Pickles as yacs' class does: a dict with items, and a __dict__ of dunder entries, one of them a set."""

    def __init__(self, items: dict[str, Any]) -> None:
        super().__init__({key: CfgNode(value) if isinstance(value, dict) else value for key, value in items.items()})
        self.__dict__.update(
            __immutable__=False, __deprecated_keys__={"OLD"}, __renamed_keys__={}, __new_allowed__=False
        )


class ModelCheckpoint:
    """Lightning uses the class itself as a key."""


@pytest.fixture
def foreign_modules() -> Iterator[Callable[[], None]]:
    """Makes this file's classes pickle as yacs' and Lightning's; the returned function takes the modules away again."""
    homes = {CfgNode: "yacs.config", ModelCheckpoint: "pytorch_lightning.callbacks.model_checkpoint"}
    was = {cls: cls.__module__ for cls in homes}
    made = []
    for cls, home in homes.items():
        parts = home.split(".")
        for name in (".".join(parts[: i + 1]) for i in range(len(parts))):
            sys.modules[name] = ModuleType(name)
            made.append(name)
        setattr(sys.modules[home], cls.__name__, cls)
        cls.__module__ = home

    def remove() -> None:
        for name in made:
            sys.modules.pop(name, None)

    yield remove
    remove()
    for cls, home in was.items():
        cls.__module__ = home


def lightning(state: dict[str, Tensor], use_centroids: bool = True) -> dict[str, Any]:
    """All that Lightning 1.1.4 writes, with the classes it writes it in."""
    model = {"NAME": "resnet50", "USE_CENTROIDS": use_centroids, "KEEP_CAMID_CENTROIDS": True, "PRETRAINED": True}
    unused = {"center_loss.centers": torch.zeros(702, 128), "fc_query.weight": torch.zeros(702, 128)}
    return {
        "epoch": 120,
        "global_step": 1,
        "pytorch-lightning_version": "1.1.4",
        "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.9), "dirpath": "/x"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"names": ["a"]}]}],
        "lr_schedulers": [{"milestones": Counter({40: 1, 70: 1})}],
        "native_amp_scaling_state": {"scale": 65536.0},
        "state_dict": OrderedDict({**state, **unused}),
        "hparams_name": None,
        "hyper_parameters": {"MODEL": CfgNode(model), "INPUT": CfgNode({"SIZE": [256, 128]}), "num_query": 2228},
    }


def test_a_lightning_checkpoint_is_read_without_yacs_and_lightning(
    tmp_path: Path, tiny_state: dict[str, Tensor], foreign_modules: Callable[[], None]
) -> None:
    torch.save(lightning(tiny_state), tmp_path / "duke.ckpt")
    foreign_modules()
    weights = read_checkpoint(tmp_path / "duke.ckpt")
    assert weights.architecture == Architecture(width=4, depths=(1, 1, 1, 1))
    assert weights.state.keys() == tiny_state.keys()
    assert all(torch.equal(weights.state[name], tensor) for name, tensor in tiny_state.items())
    assert (weights.use_centroids, weights.keep_camid_centroids, weights.label) == (True, True, None)
    assert weights.file == "duke.ckpt"


def test_the_network_of_a_checkpoint_gives_the_vectors_of_the_network_that_was_saved(
    tiny_network: ReidNetwork, tiny_weights: Weights
) -> None:
    crops = torch.rand(2, 3, 256, 128, generator=torch.Generator().manual_seed(1))
    network = tiny_weights.network()
    assert not any(module.training for module in network.modules())
    with torch.no_grad():
        assert torch.equal(network(crops), tiny_network(crops))


def test_a_plain_dict_and_a_bare_state_dict_are_read_too(tiny_state: dict[str, Tensor], read: Read) -> None:
    plain = read({"state_dict": tiny_state})
    bare = read(tiny_state)
    assert plain.weights_sha256 == bare.weights_sha256 == hash_weights(tiny_state)
    assert plain.sha256 != bare.sha256
    assert (bare.use_centroids, bare.keep_camid_centroids, bare.label) == (None, None, None)


def test_the_label_is_the_checkpoints_own_if_it_is_one_line_of_text(tiny_state: dict[str, Tensor], read: Read) -> None:
    def label_of(value: object) -> str | None:
        return read({"state_dict": tiny_state, "hyper_parameters": {"label": value}}).label

    assert label_of("demo model") == "demo model"
    assert label_of("two\nlines") is None
    assert label_of("x" * 201) is None
    assert label_of(7) is None


def test_the_weights_hash_knows_neither_container_nor_order_but_every_weight(
    tiny_state: dict[str, Tensor], read: Read
) -> None:
    names = list(tiny_state)
    random.Random(1).shuffle(names)
    shuffled = {name: tiny_state[name] for name in names}
    assert read(shuffled).weights_sha256 == hash_weights(shuffled) == hash_weights(tiny_state)
    before = hash_weights(tiny_state)
    for name in ("backbone.base.conv1.weight", "bn.running_mean", "backbone.base.layer4.0.bn3.running_var"):
        tiny_state[name].view(-1)[-1] += 1e-3
        after = hash_weights(tiny_state)
        assert after != before
        before = after


def test_all_wrong_keys_are_named_at_once(tiny_state: dict[str, Tensor], read: Read) -> None:
    del tiny_state["bn.bias"], tiny_state["backbone.base.layer3.0.conv2.weight"]
    tiny_state["backbone.base.layer1.0.bn1.IN.weight"] = torch.ones(4)
    tiny_state["bn.weight"] = torch.ones(127)
    tiny_state["backbone.base.conv1.weight"] = torch.ones(8, 3, 7, 7)
    tiny_state["bn.running_mean"] = torch.ones(128, dtype=torch.int32)
    with pytest.raises(BadCheckpoint) as refusal:
        read(tiny_state)
    assert str(refusal.value) == (
        "given.ckpt does not fit the network. "
        "2 missing: backbone.base.layer3.0.conv2.weight, bn.bias. "
        "1 unknown: backbone.base.layer1.0.bn1.IN.weight. "
        "2 mis-shaped: backbone.base.conv1.weight is 8x3x7x7, not 4x3x7x7, bn.weight is 127, not 128. "
        "1 not floating-point: bn.running_mean is int32"
    )


def test_long_lists_of_wrong_keys_are_cut_and_counted(tiny_state: dict[str, Tensor], read: Read) -> None:
    with pytest.raises(BadCheckpoint, match=r"33 unknown: extra\.0, .*extra\.19 and 13 more$"):
        read(tiny_state | {f"extra.{i}": torch.ones(1) for i in range(33)})


def test_unused_entries_may_have_any_shape_or_be_absent(tiny_state: dict[str, Tensor], read: Read) -> None:
    wanted = read(tiny_state).weights_sha256
    for shape in ((702, 128), (751, 2048), (1,)):
        extra = {"center_loss.centers": torch.ones(shape), "fc_query.weight": torch.ones(shape)}
        assert read(tiny_state | extra).weights_sha256 == wanted


def test_training_counters_may_be_absent_and_shape_no_hash(tiny_state: dict[str, Tensor], read: Read) -> None:
    without = {name: tensor for name, tensor in tiny_state.items() if not name.endswith("num_batches_tracked")}
    assert len(without) < len(tiny_state)
    weights = read(without)
    assert weights.weights_sha256 == hash_weights(tiny_state)
    weights.network()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(
    value: float, tiny_state: dict[str, Tensor], read: Read
) -> None:
    tiny_state["backbone.base.bn1.bias"][2] = value
    with pytest.raises(BadCheckpoint) as refusal:
        read(tiny_state)
    assert str(refusal.value) == "given.ckpt: NaN or infinity in 1 tensors: backbone.base.bn1.bias"


def test_a_negative_variance_is_refused(tiny_state: dict[str, Tensor], read: Read) -> None:
    tiny_state["bn.running_var"][0] = -0.5
    with pytest.raises(BadCheckpoint, match=r"negative variances in 1 tensors: bn\.running_var"):
        read(tiny_state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_weights_become_float32(
    dtype: torch.dtype, tiny_state: dict[str, Tensor], read: Read
) -> None:
    narrow = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tiny_state.items()}
    weights = read(narrow)
    for name, tensor in narrow.items():
        assert torch.equal(weights.state[name], tensor.to(tiny_state[name].dtype)), name


def test_double_weights_beyond_float32_are_refused(tiny_state: dict[str, Tensor], read: Read) -> None:
    tiny_state["bn.weight"] = torch.full((128,), 1e300, dtype=torch.float64)
    with pytest.raises(BadCheckpoint, match=r"NaN or infinity in 1 tensors: bn\.weight"):
        read(tiny_state)


def test_parameters_in_place_of_tensors_are_read(tiny_state: dict[str, Tensor], read: Read) -> None:
    wrapped = {n: nn.Parameter(t) if t.is_floating_point() else t for n, t in tiny_state.items()}
    assert read(wrapped).weights_sha256 == hash_weights(tiny_state)


def test_imagenet_weights_are_told_what_they_are(tiny_state: dict[str, Tensor], read: Read) -> None:
    plain = {n.removeprefix("backbone.base."): t for n, t in tiny_state.items() if n.startswith("backbone")}
    with pytest.raises(BadCheckpoint, match=r"looks like a plain ResNet's weights \(ImageNet\?\)"):
        read(plain | {"fc.weight": torch.ones(1000, 128)})


def test_another_networks_weights_are_told_by_their_keys(read: Read) -> None:
    with pytest.raises(BadCheckpoint, match=r"holds another network's weights: .* its keys: encoder\.weight"):
        read({"encoder.weight": torch.ones(3)})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "given.ckpt holds no dict at its top, so no state dict either"),
        ({"model": {}, "epoch": 3}, "given.ckpt holds no state_dict; at its top: model, epoch"),
        ({"state_dict": 7}, "given.ckpt holds no state_dict; at its top: state_dict"),
        ({"state_dict": {}}, "given.ckpt: its state dict holds no tensors"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_holds(content: object, sentence: str, read: Read) -> None:
    with pytest.raises(BadCheckpoint) as refusal:
        read(content)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    "architecture",
    [Architecture(4, (1, 1, 1, 1)), Architecture(8, (3, 4, 6, 3)), Architecture(), Architecture(16, (2, 1, 3, 2))],
)
def test_width_and_depths_are_read_off_the_tensors(architecture: Architecture) -> None:
    with torch.device("meta"):
        state = ReidNetwork(architecture).state_dict()
    assert infer_architecture({name: tuple(tensor.shape) for name, tensor in state.items()}) == architecture


def test_a_stray_block_number_is_an_unknown_key_and_no_deeper_network(
    tiny_state: dict[str, Tensor], read: Read
) -> None:
    tiny_state["backbone.base.layer2.99.conv1.weight"] = torch.ones(1)
    tiny_state["backbone.base.layer2.999999999999.conv1.weight"] = torch.ones(1)
    with pytest.raises(BadCheckpoint, match=r"network\. 2 unknown: backbone\.base\.layer2\.99\.conv1\.weight, "):
        read(tiny_state)


def test_a_missing_block_is_missing_and_no_shallower_network(read: Read) -> None:
    state = dict(made_up_network(Architecture(4, (1, 1, 3, 1))).state_dict())
    for name in [name for name in state if "layer3.1" in name]:
        del state[name]
    with pytest.raises(BadCheckpoint, match=r"network\. 15 missing: backbone\.base\.layer3\.1\.conv1\.weight, "):
        read(state)


def test_a_made_up_checkpoint_is_read_as_what_it_says(tiny_state: dict[str, Tensor], read: Read) -> None:
    weights = read(lightning_shaped(tiny_state))
    assert (weights.use_centroids, weights.keep_camid_centroids) == (False, True)
    assert weights.label == "made-up weights, meaningless vectors"
