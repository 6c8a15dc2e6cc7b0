"""Every adapter of a port, by name. A new adapter gets a line here, and with it the whole suite of its port."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.local_gallery.plan import IndexPlan
from app.adapters.memory import MemoryEmbedder, MemoryStore
from app.ports import Embedder, Store


def onnx(request: pytest.FixtureRequest) -> Embedder:
    """The tiny network on ONNX Runtime."""
    from app.adapters.model_directory import ModelDirectory
    from app.adapters.onnx import OnnxEmbedder

    path: Path = request.getfixturevalue("tiny_model_directory")
    directory = ModelDirectory.open(path)
    variant = directory.manifest.variant("onnx-fp32")
    return OnnxEmbedder(directory.artefact("onnx-fp32"), variant.fingerprint, directory.manifest.dim, threads=1)


def openvino(variant: str) -> Callable[[pytest.FixtureRequest], Embedder]:
    """The tiny network on OpenVINO, in the variant's precision; skipped on a CPU that has not got it."""

    def open_it(request: pytest.FixtureRequest) -> Embedder:
        from app.adapters.model_directory import ModelDirectory
        from app.adapters.openvino import open_variant

        path: Path = request.getfixturevalue("fast_model_directory")
        directory = ModelDirectory.open(path)
        if variant not in directory.manifest.variants:
            pytest.skip("this CPU does not compute in bfloat16")
        return open_variant(directory, variant, threads=1)

    return open_it


def int8(request: pytest.FixtureRequest) -> Embedder:
    """The tiny network in eight bits on ONNX Runtime."""
    from app.adapters.model_directory import ModelDirectory
    from app.adapters.onnx import OnnxEmbedder

    path: Path = request.getfixturevalue("fast_model_directory")
    directory = ModelDirectory.open(path)
    variant = directory.manifest.variant("onnx-int8")
    return OnnxEmbedder(directory.artefact("onnx-int8"), variant.fingerprint, directory.manifest.dim, threads=1)


def ascend(variant: str, *sizes: int, generation: str = "new") -> Callable[[pytest.FixtureRequest], Embedder]:
    """OMs of the tiny network on the stand-in NPU, in a worker process."""

    def open_it(request: pytest.FixtureRequest) -> Embedder:
        from app.adapters.ascend import open_variant
        from app.adapters.model_directory import ModelDirectory

        path: Path = request.getfixturevalue("om_model_directory")
        pretend: Callable[..., None] = request.getfixturevalue("atlas_host")
        pretend(acl={"generation": generation})
        return open_variant(ModelDirectory.open(path), variant, 0, sizes)

    return open_it


def worker(request: pytest.FixtureRequest) -> Embedder:
    """The memory embedder in a process of its own."""
    from app.adapters.worker import WorkerEmbedder

    return WorkerEmbedder("worker", MemoryEmbedder, 8, MemoryEmbedder().dim)


# Each takes the test's `request`, so that it may ask for whatever fixture it stands on.
EMBEDDERS: dict[str, Callable[[pytest.FixtureRequest], Embedder]] = {
    "memory": lambda request: MemoryEmbedder(),
    "onnx": onnx,
    "onnx, int8": int8,
    "openvino, float32": openvino("openvino-fp32"),
    "openvino, bfloat16": openvino("openvino-bf16"),
    "worker": worker,
    "ascend": ascend("om-fp16"),
    "ascend, older aclruntime": ascend("om-fp16", generation="old"),
    "ascend, uint8 in": ascend("om-fp16-aipp"),
    "ascend, dynamic batch": ascend("om-fp16-aipp", 2, 8),
}


class Clock:
    """What time it is for the store, until a test says otherwise."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


# Codes from the ninth item on; of no collection in these tests is so much found that not all of it is scored exactly.
CODES = IndexPlan(flat=8, tail=4, shortlist=1000, narrow=4)

# Each takes an empty directory and a clock.
STORES: dict[str, Callable[[Path, Clock], Store]] = {
    "memory": lambda directory, clock: MemoryStore(clock),
    "local": lambda directory, clock: LocalGallery(directory, clock=clock),
    "local, codes": lambda directory, clock: LocalGallery(directory, clock=clock, plan=CODES),
}


@pytest.fixture
def rounding(request: pytest.FixtureRequest) -> float:
    """How far two ways to the same vector may lie apart, relative to its largest number: float32's sums, or those of fewer
    bits, where what is near the middle between two numbers may be rounded either way."""
    kind: str = request.node.callspec.params["open_embedder"]
    return 1e-2 if any(fewer in kind for fewer in ("ascend", "int8", "bfloat16")) else 1e-5


@pytest.fixture(params=EMBEDDERS)
def open_embedder(request: pytest.FixtureRequest) -> Callable[[], Embedder]:
    """Opens one more embedder of the same kind."""
    return lambda: EMBEDDERS[request.param](request)


@pytest.fixture
def embedder(open_embedder: Callable[[], Embedder]) -> Iterator[Embedder]:
    """One embedder of each kind."""
    opened = open_embedder()
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    """The store's."""
    return Clock()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """One empty store of each kind."""
    opened = STORES[request.param](tmp_path / "data", clock)
    yield opened
    opened.close()
