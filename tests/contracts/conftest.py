"""Every adapter of a port, by name. A new adapter gets a line here, and with it the whole suite of its port."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.adapters.local_gallery import LocalGallery
from app.adapters.memory import MemoryEmbedder, MemoryStore
from app.ports import Embedder, GalleryStore


def onnx(request: pytest.FixtureRequest) -> Embedder:
    """The tiny network on ONNX Runtime."""
    from app.adapters.model_directory import ModelDirectory
    from app.adapters.onnx import OnnxEmbedder

    path: Path = request.getfixturevalue("tiny_model_directory")
    directory = ModelDirectory.open(path)
    variant = directory.manifest.variant("onnx-fp32")
    return OnnxEmbedder(directory.artefact("onnx-fp32"), variant.fingerprint, directory.manifest.dim, threads=1)


# Each takes the test's `request`, so that it may ask for whatever fixture it stands on.
EMBEDDERS: dict[str, Callable[[pytest.FixtureRequest], Embedder]] = {
    "memory": lambda request: MemoryEmbedder(),
    "onnx": onnx,
}

# Each takes an empty directory.
STORES: dict[str, Callable[[Path], GalleryStore]] = {
    "memory": lambda directory: MemoryStore(),
    "local": LocalGallery,
}


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


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GalleryStore]:
    """One empty store of each kind."""
    opened = STORES[request.param](tmp_path / "data")
    yield opened
    opened.close()
