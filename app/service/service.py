"""All use cases together, their start and their end."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from app.core.manifest import ModelManifest
from app.core.preprocess import Crop
from app.engine import Engine
from app.errors import NotReady, UnknownCollection
from app.ports import Floats, GalleryStore
from app.service.embed import Embedding
from app.service.evaluate import Evaluate
from app.service.galleries import Galleries
from app.service.ingest import Ingest
from app.service.readiness import Readiness, warm_up
from app.service.search import Search
from app.service.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The model that makes the vectors."""

    fingerprint: str
    variant: str
    dim: int
    manifest: ModelManifest

    @property
    def label(self) -> str:
        """What people are to know of it, such as "demo model, trained on drawn people, not for real use"."""
        return self.manifest.label


@dataclass(frozen=True, slots=True)
class Service:
    """The use cases; built by `app.wiring`, driven by `app.api`."""

    model: LoadedModel
    engine: Engine
    store: GalleryStore
    embedding: Embedding
    galleries: Galleries
    search: Search
    ingest: Ingest
    evaluate: Evaluate
    telemetry: Telemetry
    readiness: Readiness
    golden: tuple[Crop, Floats]
    pool: ThreadPoolExecutor
    facts: Mapping[str, str]  # versions and settings worth showing in /v1/stats

    async def start(self) -> None:
        """Serve the queue, warm up, check the golden crops. Problems show in `readiness`."""
        self.telemetry.watch(self._gauges)
        await self.engine.start()
        await warm_up(self.engine, self.golden, self.readiness)

    def require_ready(self) -> None:
        """Raises NotReady with the reason."""
        if not self.readiness.ready:
            raise NotReady(self.readiness.sentence)

    async def close(self) -> None:
        """Finish what waits, then give device, data directory and threads back."""
        self.readiness.state, self.readiness.sentence = "stopping", "the server is shutting down"
        try:
            await self.engine.close()
        finally:
            self.pool.shutdown(cancel_futures=True)
            self.store.close()

    def _gauges(self) -> Iterable[tuple[str, str, Mapping[str, float]]]:
        items: dict[str, float] = {}
        for collection in self.store.collections():
            with suppress(UnknownCollection):  # deleted meanwhile
                items[collection.name] = self.store.count(collection.name)
        yield "reid_ready", "1 when requests are taken.", {"": float(self.readiness.ready)}
        yield "reid_queue_crops", "Crops that wait for the device.", {"": float(self.engine.waiting)}
        if items:
            yield "reid_gallery_items", "Items by collection.", items
