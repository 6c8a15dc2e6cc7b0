"""The composition root: the only module that knows which adapters there are. It imports each where it is needed."""

import os
import platform
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from app.adapters.model_directory import ModelDirectory
from app.core.preprocess import Limits
from app.engine import Engine
from app.errors import BadSettings
from app.ports import Embedder, GalleryStore
from app.service.embed import Embedding
from app.service.evaluate import Evaluate
from app.service.galleries import Galleries
from app.service.ingest import Ingest
from app.service.readiness import Readiness
from app.service.search import Search
from app.service.service import LoadedModel, Service
from app.service.telemetry import Telemetry
from app.settings import Settings


@asynccontextmanager
async def open_service(settings: Settings, stored: bool = True) -> AsyncIterator[Service]:
    """The service over a checked model directory; closed at the end. It is not started: call `service.start()`.

    stored=False keeps galleries in memory only, for work that needs none, beside a server that owns the data directory.
    Raises BadModelDirectory, BadSettings, DataDirectoryBusy.
    """
    directory = ModelDirectory.open(settings.model_dir)
    with ExitStack() as opened:
        embedder = open_embedder(directory, settings)
        opened.callback(embedder.close)
        store = open_store(settings) if stored else open_memory_store()
        opened.callback(store.close)
        service = build_service(directory, embedder, store, settings)
        opened.pop_all()  # from here on they are the service's to close
    try:
        yield service
    finally:
        await service.close()


def open_embedder(directory: ModelDirectory, settings: Settings) -> Embedder:
    """The embedder for the variant that the settings name."""
    variant = directory.manifest.variant(settings.variant)
    if variant.runtime != "onnxruntime":
        raise BadSettings(
            f"variant {settings.variant!r} needs the runtime {variant.runtime!r}, which this version has not"
        )
    from app.adapters.onnx import OnnxEmbedder

    threads = settings.threads or len(os.sched_getaffinity(0))
    return OnnxEmbedder(directory.artefact(settings.variant), variant.fingerprint, directory.manifest.dim, threads)


def open_store(settings: Settings) -> GalleryStore:
    """The local gallery in the data directory."""
    from app.adapters.local_gallery import LocalGallery

    return LocalGallery(settings.data_dir)


def open_memory_store() -> GalleryStore:
    """A gallery that is gone at the end."""
    from app.adapters.memory import MemoryStore

    return MemoryStore()


def build_service(directory: ModelDirectory, embedder: Embedder, store: GalleryStore, settings: Settings) -> Service:
    """All use cases over these collaborators."""
    telemetry = Telemetry()
    engine = Engine(embedder, settings.max_waiting, telemetry)
    pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
    limits = Limits(max_bytes=settings.max_crop_bytes, max_pixels=settings.max_crop_pixels)
    embedding = Embedding(engine, pool, limits)
    galleries = Galleries(store, embedder.fingerprint, embedder.dim, lambda: datetime.now(UTC))
    golden = directory.golden()
    return Service(
        model=LoadedModel(embedder.fingerprint, settings.variant, embedder.dim, directory.manifest),
        engine=engine,
        store=store,
        embedding=embedding,
        galleries=galleries,
        search=Search(embedding, galleries, store),
        ingest=Ingest(embedding, galleries, store),
        evaluate=Evaluate(embedding, settings.data_roots),
        telemetry=telemetry,
        readiness=Readiness(),
        golden=(golden.crops, golden.vectors),
        pool=pool,
        facts=facts(),
    )


def facts() -> Mapping[str, str]:
    """Versions, and what of the CPU is used: what matters when something is off."""
    from app.adapters.local_gallery import simd_level

    names = ("reid-service", "onnxruntime", "faiss-cpu", "numpy", "pillow")
    found = {name: installed(name) for name in names}
    return {
        "version": found.pop("reid-service"),
        "python": platform.python_version(),
        **found,
        "faiss_simd": simd_level(),
    }


def installed(package: str) -> str:
    """A package's version, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
