"""A training checkpoint to a network's weights: which keys count, what is missing, what is too much.

    weights = read_checkpoint(Path("dukemtmcreid_resnet50_256_128_epoch_120.ckpt"))
    weights.network()          # ReidNetwork in eval mode

Three kinds of file are read: Lightning's (the published one), a dict with a `state_dict`, and a bare state dict.
Source of the key names and of the unused ones: the published DukeMTMC checkpoint's 325 entries.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.adapters.model_directory import sha256_of
from app.core.manifest import Checkpoint
from app.errors import BadCheckpoint
from model_build.network import EXPANSION, FULL_DEPTHS, Architecture, ReidNetwork
from model_build.torch_file import StoredTensor, TorchFile

UNUSED = ("center_loss.centers", "fc_query.weight")  # training's classifier and class centres, of any shape
COUNTER = "num_batches_tracked"  # counts training steps and shapes no vector: may be absent, and is not hashed
FLOATS = ("float32", "float16", "bfloat16", "float64")  # half precision becomes float32 exactly, double is rounded
NAMED = 20  # of each kind of wrong key, so that a foreign file does not fill the screen
MAX_LABEL = 200
BACKBONE = "backbone.base."


@dataclass(frozen=True, slots=True)
class Weights:
    """Checked weights of one network, float32 and finite, with where they come from."""

    state: Mapping[str, Tensor]
    architecture: Architecture
    file: str
    sha256: str
    weights_sha256: str
    use_centroids: bool | None
    keep_camid_centroids: bool | None
    label: str | None

    def network(self) -> ReidNetwork:
        """The network with these weights, in eval mode."""
        network = ReidNetwork(self.architecture)
        network.load_state_dict(dict(self.state), strict=False)  # read_checkpoint let only the counters be absent
        return network.eval()

    def fact(self) -> Checkpoint:
        """What the manifest says about them."""
        return Checkpoint(
            file=self.file,
            sha256=self.sha256,
            weights_sha256=self.weights_sha256,
            use_centroids=self.use_centroids,
            keep_camid_centroids=self.keep_camid_centroids,
            label=self.label,
        )


def read_checkpoint(path: Path) -> Weights:
    """Read a checkpoint without running anything in it.

    Raises BadCheckpoint with a sentence: what the file is instead; or all missing, unknown and mis-shaped keys at once;
    or which weights are not finite.
    """
    with TorchFile.open(path) as file:
        stored, settings = _parts(file)
        architecture = infer_architecture({name: tensor.shape for name, tensor in stored.items()})
        expected = expected_shapes(architecture)
        _check_keys(path.name, stored, expected)
        state = {name: _weight(file, name, stored[name]) for name in expected if name in stored}
    _check_values(path.name, state)
    model = settings.get("MODEL")
    return Weights(
        state=state,
        architecture=architecture,
        file=path.name,
        sha256=sha256_of(path),
        weights_sha256=hash_weights(state),
        use_centroids=_flag(model, "USE_CENTROIDS"),
        keep_camid_centroids=_flag(model, "KEEP_CAMID_CENTROIDS"),
        label=_label(settings.get("label")),
    )


def expected_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every entry of the network's state dict. Nothing is allocated."""
    with torch.device("meta"):
        network = ReidNetwork(architecture)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def infer_architecture(shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
    """Width and depths from the tensors' shapes; what is absent is taken to be as in ResNet-50.

    The width is what most of five places say, so that one mis-shaped tensor is named rather than all the others.
    """
    votes: Counter[int] = Counter()
    places = [("conv1.weight", 1), ("bn1.weight", 1), ("layer1.0.conv1.weight", 1), ("layer4.0.conv1.weight", 8)]
    for name, factor in (*((BACKBONE + place, factor) for place, factor in places), ("bn.weight", 8 * EXPANSION)):
        shape = shapes.get(name)
        if shape and 0 < shape[0] <= 8192 and shape[0] % factor == 0:
            votes[shape[0] // factor] += 1
    first, second, third, fourth = (_depth(shapes, f"{BACKBONE}layer{i + 1}.") or FULL_DEPTHS[i] for i in range(4))
    return Architecture(votes.most_common(1)[0][0] if votes else 64, (first, second, third, fourth))


def _depth(names: Iterable[str], stage: str) -> int:
    """Blocks of a stage, by the highest number among those that continue the row: {0, 2} is 3 deep, {0, 1, 99} is 2."""
    blocks = {name.removeprefix(stage).split(".")[0] for name in names if name.startswith(stage)}
    numbers = {int(block) for block in blocks if block.isdecimal() and len(block) < 3}
    return max((number + 1 for number in numbers if number <= len(numbers)), default=0)


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """Hex sha256 over name, shape and little-endian float32 bytes of every weight, in the order of names.

    The container, its order and the weights that training alone uses do not count.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in state if not name.endswith(COUNTER)):
        values = state[name].detach().contiguous().numpy().astype("<f4", copy=False)
        digest.update(f"{name} {'x'.join(map(str, values.shape))}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _parts(file: TorchFile) -> tuple[dict[str, StoredTensor], Mapping[Any, Any]]:
    """The state dict and the hyper-parameters, whichever of the three kinds of file it is."""
    content = file.content
    if not isinstance(content, dict):
        raise BadCheckpoint(f"{file.name} holds no dict at its top, so no state dict either")
    state, settings = content.get("state_dict"), content.get("hyper_parameters")
    if state is None and any(isinstance(value, StoredTensor) for value in content.values()):
        state = content
    if not isinstance(state, dict):
        raise BadCheckpoint(f"{file.name} holds no state_dict; at its top: {_listed(map(str, content)) or 'nothing'}")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, StoredTensor)}
    if not any(name.startswith(BACKBONE) for name in tensors):
        raise BadCheckpoint(_foreign(file.name, tensors))
    others = [str(name) for name, value in state.items() if not isinstance(value, StoredTensor)]
    if others:
        raise BadCheckpoint(f"{file.name}: entries of the state dict that are no tensors: {_listed(others)}")
    return tensors, settings if isinstance(settings, dict) else {}


def _foreign(file: str, tensors: Mapping[str, StoredTensor]) -> str:
    if not tensors:
        return f"{file}: its state dict holds no tensors"
    if "conv1.weight" in tensors or "layer1.0.conv1.weight" in tensors:
        return (
            f"{file} looks like a plain ResNet's weights (ImageNet?): no key begins with {BACKBONE!r}. "
            "The Centroids-ReID checkpoint itself is needed; ImageNet weights are only where its training began"
        )
    return f"{file} holds another network's weights: no key begins with {BACKBONE!r}; its keys: {_listed(tensors)}"


def _check_keys(file: str, stored: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Everything that is wrong with the keys, in one paragraph."""
    missing = [name for name in expected if name not in stored and not name.endswith(COUNTER)]
    unknown = [name for name in stored if name not in expected and name not in UNUSED]
    known = [name for name in expected if name in stored]
    shaped = [
        f"{name} is {_dimensions(stored[name].shape)}, not {_dimensions(expected[name])}"
        for name in known
        if stored[name].shape != expected[name]
    ]
    kinds = [
        f"{name} is {stored[name].kind}"
        for name in known
        if not name.endswith(COUNTER) and stored[name].kind not in FLOATS
    ]
    faults = [("missing", missing), ("unknown", unknown), ("mis-shaped", shaped), ("not floating-point", kinds)]
    said = [f"{len(names)} {fault}: {_listed(names)}" for fault, names in faults if names]
    if said:
        raise BadCheckpoint(f"{file} does not fit the network. " + ". ".join(said))


def _weight(file: TorchFile, name: str, stored: StoredTensor) -> Tensor:
    tensor = file.tensor(stored)
    return tensor.to(torch.int64) if name.endswith(COUNTER) else tensor.to(torch.float32)


def _check_values(file: str, state: Mapping[str, Tensor]) -> None:
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise BadCheckpoint(f"{file}: NaN or infinity in {len(broken)} tensors: {_listed(broken)}")
    negative = [name for name, tensor in state.items() if name.endswith("running_var") and bool((tensor < 0).any())]
    if negative:
        raise BadCheckpoint(f"{file}: negative variances in {len(negative)} tensors: {_listed(negative)}")


def _flag(model: object, name: str) -> bool | None:
    value = model.get(name) if isinstance(model, dict) else None
    return value if isinstance(value, bool) else None


def _label(value: object) -> str | None:
    """Text from a foreign file: one line of sane length, else none."""
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= MAX_LABEL else None


def _dimensions(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _listed(names: Iterable[str]) -> str:
    """The first names and how many more, each printable and of sane length."""
    every = list(names)
    shown = ["".join(c if c.isprintable() else "?" for c in name[:100]) for name in every[:NAMED]]
    return ", ".join(shown) + (f" and {len(every) - NAMED} more" if len(every) > NAMED else "")
