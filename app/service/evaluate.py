"""The accuracy of what is served: labelled crops through the serving path, ranked exactly, reported by named protocol."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.accuracy import Accuracy, measure
from app.core.accuracy_report import BY_NAME, as_json, data_json, no_agreement
from app.core.jobs import Job
from app.core.protocols import check_names
from app.core.records import NamePattern, label_names
from app.core.splits import Sides, Split, SplitCounts, sides_of, without_background
from app.errors import BadField, ReidError
from app.ports import GalleryStore
from app.service.datasets import GALLERY, QUERY, Count, Tell, embed_split, find_data_set, list_split, split_of
from app.service.embed import Embedding, Upload
from app.service.galleries import Galleries
from app.service.labelled_gallery import agreement, read_gallery, within
from app.service.model import LoadedModel
from app.service.stages import Stages

SEQUENCE = "the order in which the items were added"
Served = tuple[Embedding, LoadedModel]
Open = Callable[[str, int | None], AbstractAsyncContextManager[Served]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What to evaluate: a folder's `query/` against its `bounding_box_test/`, uploaded queries against a collection, or a
    collection's items against each other; by which protocols (none: all); embedded by which variant, at which batch size.
    """

    folder: str | None = None
    collection: str | None = None
    queries: tuple[Upload, ...] = ()
    pattern: str = "auto"
    protocols: tuple[str, ...] = ()
    variant: str | None = None
    batch_size: int | None = None

    def check(self) -> None:
        """Raises BadField for what does not go together, an unknown protocol, a pattern that is none."""
        if (self.folder is None) == (self.collection is None):
            raise BadField("folder", "give either a folder or a collection to evaluate")
        if self.collection is not None and (self.variant is not None or self.batch_size is not None):
            raise BadField("variant", "a collection has its vectors already; variant and batch_size are for folders")
        if (names := len({upload.name for upload in self.queries})) < len(self.queries):
            raise BadField("image", f"{len(self.queries)} pictures have {names} names; each query needs its own")
        check_names(self.protocols)
        NamePattern(self.pattern)


class Evaluate:
    """Evaluates folders below the allowed roots, and collections."""

    def __init__(
        self,
        served: Served,
        galleries: Galleries,
        store: GalleryStore,
        roots: Sequence[Path],
        open_other: Open,
    ) -> None:
        """served: the path that serves. open_other: one with another variant or batch size of the model directory."""
        self._served, self._galleries, self._store = served, galleries, store
        self._roots = [root.resolve() for root in roots]
        self._open_other = open_other

    def check(self, wish: Wish) -> None:
        """What can be told before the work: raises Forbidden outside the roots, BadInput for no such folder, BadField."""
        wish.check()
        if wish.folder is not None:
            find_data_set(wish.folder, self._roots)

    async def run(self, wish: Wish, tell: Tell = lambda done, total, at: None) -> dict[str, Any]:
        """The report, as plain values for JSON. Raises what `check` raises, BadInput where no name or picture is usable,
        UnknownCollection, FingerprintMismatch."""
        wish.check()
        if wish.folder is not None:
            return await self._folder(wish, find_data_set(wish.folder, self._roots), tell)
        return await self._collection(wish, wish.collection or "", tell)

    async def job(self, job: Job, report: Tell) -> dict[str, Any]:
        """The same for a job, whose params are a wish's fields. Raises as `run`."""
        params = {**job.params, "protocols": tuple(job.params.get("protocols", ()))}
        return await self.run(Wish(**params), report)

    async def _folder(self, wish: Wish, root: Path, tell: Tell) -> dict[str, Any]:
        stages, names = Stages(), NamePattern(wish.pattern)
        asked = await asyncio.to_thread(list_split, root / QUERY, names, ask_for=True)
        kept = await asyncio.to_thread(list_split, root / GALLERY, names, ask_for=False)
        count = Count(len(asked.labelled) + len(kept.labelled), tell)
        async with self._path(wish) as (embedding, model):
            with stages.measure("embed"):
                query, of_query = await embed_split(embedding, root / QUERY, asked, count)
                gallery, of_gallery = await embed_split(embedding, root / GALLERY, kept, count)
        accuracy = await _measure(sides_of(query, gallery), wish, model, stages, tell)
        data = data_json(accuracy, of_query, of_gallery, BY_NAME, folder=root.name)
        none = no_agreement("a folder's crops are in no collection")
        return _answer(accuracy, data, none, model, stages)

    async def _collection(self, wish: Wish, name: str, tell: Tell) -> dict[str, Any]:
        await self._galleries.usable(name)
        stages, (_, model) = Stages(), self._served
        with stages.measure("read"):
            gallery = await asyncio.to_thread(read_gallery, self._store, name)
        split, of_gallery = gallery.labelled()
        if wish.queries:
            with stages.measure("embed"):
                query, of_query = await self._embed_queries(wish, tell)
            sides = sides_of(query, split)
        else:
            sides, of_query = within(gallery)
        accuracy = await _measure(sides, wish, model, stages, tell)
        with stages.measure("search"):
            agree = await asyncio.to_thread(agreement, self._store, name, gallery)
        data = data_json(accuracy, of_query, of_gallery, SEQUENCE, collection=name)
        return _answer(accuracy, data, agree, model, stages)

    async def _embed_queries(self, wish: Wish, tell: Tell) -> tuple[Split, SplitCounts]:
        """Uploaded queries, labelled by their names."""
        pattern, embedding = NamePattern(wish.pattern), self._served[0]
        uploads = {upload.name: upload for upload in wish.queries}
        files = without_background(label_names(uploads, pattern), pattern)
        count = Count(len(files.labelled), tell)

        async def one(name: str) -> Any:
            answer = await embedding.try_one(uploads[name])
            count.one_more()
            return answer if isinstance(answer, ReidError) else answer[1]

        vectors = await asyncio.gather(*(one(name) for name, _ in files.labelled))
        return split_of(files, vectors, "the request")

    def _path(self, wish: Wish) -> AbstractAsyncContextManager[Served]:
        """The path that serves where it is what is wished for; else another one, for this evaluation alone."""
        _, model = self._served
        if wish.variant in (None, model.variant) and wish.batch_size in (None, model.batch_size):
            return _as_it_is(self._served)
        return self._open_other(wish.variant or model.variant, wish.batch_size)


@asynccontextmanager
async def _as_it_is(served: Served) -> AsyncIterator[Served]:
    yield served


async def _measure(sides: Sides, wish: Wish, model: LoadedModel, stages: Stages, tell: Tell) -> Accuracy:
    use_centroids = model.manifest.checkpoint.use_centroids
    crops = len(sides.query.pids) + len(sides.gallery.pids)
    left = threading.Event()  # nobody waits for the figures any more: the thread, which no cancel reaches, is to end

    def beat() -> None:
        if left.is_set():
            raise _Left

    def at(what: str) -> None:
        beat()
        tell(crops, crops, f"ranking: {what}")

    try:
        with stages.measure("rank"):
            return await asyncio.to_thread(measure, sides, wish.protocols, use_centroids, tell=at, beat=beat)
    finally:
        left.set()


class _Left(Exception):
    """Ends a thread whose caller was cancelled; nobody sees it."""


def _answer(
    accuracy: Accuracy, data: dict[str, Any], agree: dict[str, Any], model: LoadedModel, stages: Stages
) -> dict[str, Any]:
    report = as_json(accuracy)
    return report | {"data": data, "model": model.as_json(), "index_agreement": agree, "timings_ms": dict(stages.ms)}
