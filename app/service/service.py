"""All use cases together, their start and their end."""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from app.engine import Engine
from app.errors import NotReady, UnknownCollection
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
from app.service.readiness import Readiness
from app.service.reembed import Reembed
from app.service.retention import Sweeper
from app.service.search import Search
from app.service.telemetry import Gauge, Telemetry
from app.service.transfer import Transfer
from app.service.upkeep import Caretaker
from app.service.verify import Verify


@dataclass(frozen=True, slots=True)
class Service:
    """The use cases; built by `app.wiring`, driven by `app.api`."""

    model: LoadedModel
    engine: Engine
    store: Store
    embedding: Embedding
    galleries: Galleries
    search: Search
    verify: Verify
    ingest: Ingest
    imports: Imports
    transfer: Transfer
    reembed: Reembed
    evaluate: Evaluate
    calibrations: Calibrations
    jobs: Jobs
    persons: Persons
    retention: Sweeper
    caretaker: Caretaker
    telemetry: Telemetry
    readiness: Readiness
    pool: ThreadPoolExecutor
    facts: Mapping[str, str]  # versions and settings worth showing in /v1/stats

    async def start(self) -> None:
        """Prove the devices and serve the queue, make galleries ready, then run jobs. A device's problems show in
        `readiness`; raises StorageFailed where a gallery is damaged.
        """
        self.telemetry.watch(self._gauges)
        await self.jobs.recover()
        await asyncio.gather(self.engine.start(), asyncio.to_thread(self.store.derive))
        self.jobs.start()
        self.retention.start()

    def require_ready(self) -> None:
        """Raises NotReady with the reason."""
        if not self.readiness.ready:
            raise NotReady(self.readiness.sentence)

    async def close(self) -> None:
        """Cancel the job that runs, finish what waits, then give device, data directory and threads back."""
        try:
            await self.retention.close()
            await self.jobs.close()
            await self.engine.close()
        finally:
            self.pool.shutdown(cancel_futures=True)
            self.store.close()

    def _gauges(self) -> Iterable[Gauge]:
        items: dict[str, float] = {}
        with suppress(NotReady):
            for collection in self.store.collections():
                with suppress(UnknownCollection):  # deleted meanwhile
                    items[collection.name] = self.store.count(collection.name)
        ready = {lane.name: float(lane.ready) for lane in self.engine.lanes}
        hanging = {lane.name: float(lane.state == "hanging") for lane in self.engine.lanes}
        waiting = {kind: float(crops) for kind, crops in self.engine.waiting_by_class.items()}
        restarts = {lane.name: float(lane.restarts) for lane in self.engine.lanes}
        yield Gauge("reid_ready", "1 when requests are taken.", {"": float(self.readiness.ready)})
        yield Gauge("reid_queue_crops", "Crops that wait for a device.", waiting, "class")
        yield Gauge("reid_device_ready", "1 while a device serves.", ready, "device")
        yield Gauge("reid_device_hanging", "1 while a call of it lasts longer than it may.", hanging, "device")
        yield Gauge("reid_device_restarts", "Times it was opened again.", restarts, "device")
        yield Gauge("reid_jobs", "Jobs that wait or run.", self.jobs.counts(), "state")
        if items:
            yield Gauge("reid_gallery_items", "Items by collection.", items, "collection")
