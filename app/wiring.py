"""The composition root: the only module that knows which adapters there are. It imports each where it is needed."""

import asyncio
import functools
import os
import platform
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from app.adapters.model_directory import ModelDirectory
from app.core.manifest import ACLRUNTIME, ONNXRUNTIME, OPENVINO
from app.core.preprocess import Limits
from app.engine import Device, Engine, Prove
from app.errors import BadField, BadInput, BadSettings, DeviceFailed, SetupError
from app.ports import Store
from app.service.calibrate import Calibrations
from app.service.embed import Embedding
from app.service.evaluate import Evaluate
from app.service.galleries import Galleries
from app.service.imports import Imports
from app.service.ingest import Ingest
from app.service.jobs import Jobs
from app.service.model import LoadedModel
from app.service.persons import Persons
from app.service.readiness import GoldenProof, Readiness
from app.service.reembed import Reembed
from app.service.retention import Sweeper
from app.service.search import Search
from app.service.service import Service
from app.service.telemetry import Telemetry
from app.service.transfer import Transfer
from app.service.upkeep import Caretaker
from app.service.verify import Verify
from app.settings import Settings

HELPS_FROM = 2  # crops that wait for each helper: fewer are over sooner with all cores, one after the other
MOST_HELPED = 8  # cores; each helper has room for a batch of its own, and more were not measured
GRACE_S = 5.0  # for a worker to be killed and to say why, before its lane would count as hanging


@asynccontextmanager
async def open_service(settings: Settings, stored: bool = True) -> AsyncIterator[Service]:
    """The service over a checked model directory; closed at the end. It is not started: call `service.start()`.

    stored=False keeps galleries in memory only, for work that needs none, beside a server that owns the data directory.
    Raises BadModelDirectory, BadDevice, BadSettings, DataDirectoryBusy.
    """
    directory = ModelDirectory.open(settings.model_dir)
    chosen = devices(directory, settings)
    with ExitStack() as opened:
        store = open_store(settings) if stored else open_memory_store()
        opened.callback(store.close)
        service = build_service(directory, chosen, store, settings)
        opened.pop_all()  # from here on the store is the service's to close
    try:
        await service.engine.open()
        yield service
    finally:
        await service.close()


def devices(directory: ModelDirectory, settings: Settings) -> list[Device]:
    """What runs the variant that the settings name; nothing is opened yet. Raises BadSettings, BadModelDirectory.

    Nothing falls back by itself: a variant for the NPU never runs on the CPU instead.
    """
    name, runtime = settings.variant, directory.manifest.variant(settings.variant).runtime
    makers = {ONNXRUNTIME: ("cpu", _onnx), OPENVINO: ("cpu", _openvino), ACLRUNTIME: ("ascend", _ascend)}
    if runtime not in makers:
        raise BadSettings(f"variant {name!r} needs the runtime {runtime!r}, which this version has not")
    kind, make = makers[runtime]
    wanted = settings.devices or ({"cpu": "cpu", "ascend": "ascend:0"}[kind],)
    if foreign := [device for device in wanted if device.partition(":")[0] != kind]:
        elsewhere = {runtime for runtime, (other, _) in makers.items() if other != kind}
        others = ", ".join(n for n, v in directory.manifest.variants.items() if v.runtime in elsewhere) or "none"
        raise BadSettings(
            f"variant {name!r} runs on {kind}, not on {', '.join(foreign)}; variants for other devices here: {others}"
        )
    return [made for device in wanted for made in make(directory, settings, device)]


def _onnx(directory: ModelDirectory, settings: Settings, device: str) -> list[Device]:
    """The CPU, and helpers on the same cores, one for each core but the first, for times when a queue has formed."""
    from app.adapters.onnx import BATCH_SIZES, OnnxEmbedder, Sessions

    path, fingerprint = directory.artefact(settings.variant), directory.manifest.variant(settings.variant).fingerprint
    threads = settings.threads or len(os.sched_getaffinity(0))
    sizes, dim = settings.batch_sizes or BATCH_SIZES, directory.manifest.dim
    lanes = threads if threads <= MOST_HELPED else 1
    sessions = Sessions(path, threads, shared=lanes > 1)

    def open_one() -> OnnxEmbedder:
        return OnnxEmbedder(path, fingerprint, dim, threads, sizes, sessions)

    names = [device, *(f"{device}+{number}" for number in range(1, lanes))]
    return [Device(name, open_one, pads=False, beside=lanes, helps_from=HELPS_FROM * i) for i, name in enumerate(names)]


def _openvino(directory: ModelDirectory, settings: Settings, device: str) -> list[Device]:
    from app.adapters.openvino import open_variant as open_it

    threads = settings.threads or len(os.sched_getaffinity(0))
    variant, sizes = settings.variant, settings.batch_sizes
    return [Device(device, lambda: open_it(directory, variant, threads, sizes), pads=False)]


def _ascend(directory: ModelDirectory, settings: Settings, device: str) -> list[Device]:
    from app.adapters.ascend import open_variant
    from app.adapters.worker import Deadlines

    chip, deadlines = int(device.partition(":")[2]), Deadlines(run_s=settings.device_timeout_s)
    variant, sizes, stop = settings.variant, settings.batch_sizes, threading.Event()
    return [Device(device, lambda: open_variant(directory, variant, chip, sizes, deadlines, stop), stop.set)]


@asynccontextmanager
async def open_caretaker(settings: Settings, derive: bool) -> AsyncIterator[Caretaker]:
    """The upkeep of a data directory, without a model; closed at the end. derive: make ready what an erase changes too.

    Raises BadInput where there is none, DataDirectoryBusy, StorageFailed.
    """
    from app.adapters.local_gallery.database import FILE

    if not (settings.data_dir / FILE).is_file():
        raise BadInput(f"there is no gallery in {settings.data_dir}")
    store = open_store(settings)
    try:
        if derive:
            await asyncio.to_thread(store.derive)
        jobs = Jobs(store.jobs, lambda: datetime.now(UTC))
        caretaker = Caretaker(store, jobs)
        jobs.start()
        try:
            yield caretaker
        finally:
            await jobs.close()
    finally:
        store.close()


def open_store(settings: Settings) -> Store:
    """The local gallery in the data directory."""
    from app.adapters.local_gallery import LocalGallery

    return LocalGallery(settings.data_dir, derive=False, snapshots=settings.snapshot_dir)


def open_memory_store() -> Store:
    """A gallery that is gone at the end."""
    from app.adapters.memory import MemoryStore

    return MemoryStore()


def build_service(
    directory: ModelDirectory,
    chosen: Sequence[Device],
    store: Store,
    settings: Settings,
    prove: Prove | None = None,
) -> Service:
    """All use cases over these collaborators. prove: what a device must show; None: the golden crops."""
    telemetry = Telemetry()
    golden = directory.golden(settings.variant)
    prove = prove or GoldenProof(golden.crops, golden.vectors, golden.cosine)
    engine = Engine(chosen, settings.max_waiting, telemetry, prove=prove, call_s=settings.device_timeout_s + GRACE_S)
    model = loaded_model(directory, settings)
    pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
    limits = Limits(max_bytes=settings.max_crop_bytes, max_pixels=settings.max_crop_pixels)
    embedding = Embedding(engine, pool, limits)
    open_other = functools.partial(open_variant, directory, settings, pool, limits)
    galleries = Galleries(store, model.fingerprint, model.dim, lambda: datetime.now(UTC))
    evaluate = Evaluate((embedding, model), galleries, store, settings.data_roots, open_other)
    jobs = Jobs(store.jobs, lambda: datetime.now(UTC))
    jobs.register("evaluate", evaluate.job)
    ingest = Ingest(embedding, galleries, store)
    imports = Imports(ingest, galleries, settings.data_roots, settings.max_crop_bytes)
    jobs.register("import", imports.job, resumable=True)
    transfer = Transfer(galleries, store, settings.data_roots)
    jobs.register("import_archive", transfer.job, resumable=True)
    calibrations = Calibrations(galleries, store, lambda: datetime.now(UTC))
    jobs.register("calibrate", calibrations.job, resumable=True)
    reembed = Reembed(embedding, galleries, store, calibrations.learn_like)
    jobs.register("reembed", reembed.job, resumable=True)
    return Service(
        model=model,
        engine=engine,
        store=store,
        embedding=embedding,
        galleries=galleries,
        search=Search(embedding, galleries, store, calibrations.judge),
        verify=Verify(embedding, galleries, store, calibrations.verdicts),
        ingest=ingest,
        imports=imports,
        transfer=transfer,
        reembed=reembed,
        evaluate=evaluate,
        calibrations=calibrations,
        jobs=jobs,
        persons=Persons(store),
        retention=Sweeper(store, lambda: datetime.now(UTC)),
        caretaker=Caretaker(store, jobs),
        telemetry=telemetry,
        readiness=Readiness(engine, lambda: store.deriving),
        pool=pool,
        facts=facts(),
    )


def loaded_model(directory: ModelDirectory, settings: Settings) -> LoadedModel:
    """What these settings load."""
    sizes = settings.batch_sizes
    return LoadedModel(
        fingerprint=directory.manifest.variant(settings.variant).fingerprint,
        variant=settings.variant,
        batch_size=sizes[0] if len(sizes) == 1 else None,
        dim=directory.manifest.dim,
        manifest=directory.manifest,
    )


@asynccontextmanager
async def open_variant(
    directory: ModelDirectory,
    settings: Settings,
    pool: ThreadPoolExecutor,
    limits: Limits,
    variant: str,
    batch_size: int | None,
) -> AsyncIterator[tuple[Embedding, LoadedModel]]:
    """Another variant, or another batch size, beside the one that serves, for as long as it is needed.

    Raises BadField where the model directory or this machine has no such variant, DeviceFailed.
    """
    same = directory.manifest.variants.get(variant) == directory.manifest.variants.get(settings.variant)
    changed: dict[str, object] = {"variant": variant, "devices": settings.devices if same else ()}
    if batch_size is not None:
        changed["batch_sizes"] = (batch_size,)
    chosen = settings.model_copy(update=changed)
    try:
        golden = directory.golden(variant)
        prove = GoldenProof(golden.crops, golden.vectors, golden.cosine)
        call_s = settings.device_timeout_s + GRACE_S
        engine = Engine(devices(directory, chosen), settings.max_waiting, prove=prove, call_s=call_s)
    except SetupError as error:
        raise BadField("variant", str(error)) from error
    try:
        try:
            await engine.start()
        except SetupError as error:
            raise BadField("variant", str(error)) from error
        if not Readiness(engine, lambda: None).ready:
            raise DeviceFailed(f"variant {variant!r} cannot be used: {Readiness(engine, lambda: None).sentence}")
        yield Embedding(engine, pool, limits), loaded_model(directory, chosen)
    finally:
        await engine.close()


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
