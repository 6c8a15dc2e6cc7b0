"""What a collection's scores mean: learnt from its own labels as a job, kept with it, and asked by every search.

judgement = await calibrations.judge("lobby", "item", [0.83, 0.61])
judgement.decision, judgement.probabilities       # "match", (0.97, 0.41)
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from app.core.calibrated import By, Calibrated
from app.core.decision import (
    DEFAULT_FPIR,
    FPIRS,
    Calibration,
    Decision,
    Trials,
    calibrate,
    decide,
    describe,
    pair_trials,
    person_trials,
    probability,
    search_trials,
)
from app.core.jobs import Job
from app.core.metrics import Ints, Labelled
from app.core.records import is_background
from app.errors import BadField, Overloaded, TooFewLabels, Unavailable, UnknownCollection, UnknownJob
from app.ports import Store
from app.service.datasets import Tell
from app.service.galleries import Galleries
from app.service.jobs import Jobs
from app.service.judgement import Judgement
from app.service.labelled_gallery import Gallery, read_gallery
from app.service.verify import Verdict

log = logging.getLogger(__name__)
KINDS: dict[By, Callable[[Labelled], Trials]] = {"item": search_trials, "person": person_trials, "pair": pair_trials}
OUTGROWN = 0.1  # the share of items by which a collection may differ from what its calibration was learnt of
NEVER = "this collection is not calibrated: POST /v1/collections/{}/calibration, or reid calibrate --collection {}"


@dataclass(frozen=True, slots=True)
class _Learnt:
    """A stored calibration, read."""

    stored: Calibrated
    fpir: float
    calibration: Calibration | None
    refused: str | None


@dataclass(frozen=True, slots=True)
class _Renewal:
    """A job that was asked for, "" while it is submitted, and how many items there were then."""

    job_id: str
    items: int


class Calibrations:
    """Learns, keeps and applies them."""

    def __init__(self, galleries: Galleries, store: Store, clock: Callable[[], datetime]) -> None:
        self._galleries, self._store, self._clock = galleries, store, clock
        # Parsed once; looked up by what would change with a new one, or with another collection of the name.
        self._read: dict[tuple[str, By], tuple[datetime, _Learnt]] = {}
        self._jobs: Jobs | None = None
        self._renewals: dict[str, _Renewal] = {}  # the last one of each collection

    def renew_with(self, jobs: Jobs) -> None:
        """From now on a collection that has outgrown its calibration is calibrated again, as a job, when it is searched.

        For a server; a command that ends soon leaves it.
        """
        self._jobs = jobs

    def check(self, fpir: float) -> None:
        """Raises BadField for a rate that calibrations do not tell."""
        if fpir not in FPIRS:
            raise BadField("fpir", f"is {fpir:g}; one of {', '.join(f'{rate:g}' for rate in FPIRS)} is told")

    async def job(self, job: Job, report: Tell) -> dict[str, Any]:
        """Calibrate the collection of the job's params. Raises as `learn`."""
        return await self.learn(str(job.params["collection"]), float(job.params.get("fpir", DEFAULT_FPIR)), report)

    async def learn_like(self, old: str, new: str, report: Tell) -> None:
        """Calibrate a collection if another one is, at that one's rate. Raises as `learn`."""
        learnt, _ = await asyncio.to_thread(self._look_up, old, "item")
        if learnt is not None:
            await self.learn(new, learnt.fpir, report)

    async def learn(self, name: str, fpir: float, report: Tell) -> dict[str, Any]:
        """Calibrate a collection for every kind of score. Raises UnknownCollection, BadInput."""
        collection = await self._galleries.usable(name)
        report(0, len(KINDS), "reading the collection")
        gallery = await asyncio.to_thread(read_gallery, self._store, name)
        if (await self._galleries.usable(name)).created_at != collection.created_at:
            raise UnknownCollection(name)  # it was deleted meanwhile, and another made under its name
        rows, summary = await asyncio.to_thread(_labelled, gallery), {}
        for done, (by, trials_of) in enumerate(KINDS.items()):
            report(done, len(KINDS), f"scores by {by}")
            made, refused = await asyncio.to_thread(_learn, trials_of, rows)
            data = {"fpir": fpir, "calibration": made.model_dump(mode="json") if made else None, "refused": refused}
            row = Calibrated(by, collection.fingerprint, len(gallery.items), self._clock(), json.dumps(data))
            await asyncio.to_thread(self._store.calibrations.put_calibration, name, row)
            summary[by] = {"refused": refused, "sentences": describe(made) if made else []}
        report(len(KINDS), len(KINDS), "")
        return {"collection": name, "calibrations": summary}

    async def all(self, name: str) -> dict[By, dict[str, Any]]:
        """What is known of each kind of score. Raises UnknownCollection."""
        found: dict[By, dict[str, Any]] = {}
        for by in KINDS:
            learnt, items = await asyncio.to_thread(self._look_up, name, by)
            if learnt is not None:
                found[by] = {
                    "created_at": learnt.stored.created_at,
                    "items": learnt.stored.items_count,
                    "stale": _outgrown(learnt.stored, items),
                    "fpir": learnt.fpir,
                    "refused": learnt.refused,
                    "sentences": describe(learnt.calibration) if learnt.calibration else [],
                    "calibration": learnt.calibration.model_dump(mode="json") if learnt.calibration else None,
                }
        return found

    async def judge(self, name: str, by: By, scores: Sequence[float], fpir: float | None = None) -> Judgement:
        """What these scores, best first, mean in this collection, at the rate of false matches asked for, or the collection's.

        Raises BadField for a rate that calibrations do not tell.
        """
        if fpir is not None:
            self.check(fpir)
        nothing = (None,) * len(scores)
        learnt, items = await asyncio.to_thread(self._look_up, name, by)
        if learnt is None:
            return Judgement(nothing, None, NEVER.format(name, name))
        caveat = None
        if _outgrown(learnt.stored, items):
            caveat = f"stale: calibrated with {learnt.stored.items_count} items, the collection has {items}"
            await self._renew(name, learnt.fpir, items)
        if learnt.calibration is None:
            return Judgement(nothing, None, _sentence(learnt.refused, caveat))
        told = tuple(probability(np.asarray(scores, dtype=np.float64), learnt.calibration).tolist()) if scores else ()
        setting = learnt.calibration.setting(learnt.fpir if fpir is None else fpir)
        if setting.threshold is None:
            return Judgement(told, None, _sentence(setting.reason, caveat))
        decision: Decision = decide(float(max(scores)), learnt.calibration, setting.fpir) if scores else "unknown"
        return Judgement(told, decision, caveat)

    async def verdicts(
        self, collection: str, by: By, scores: Sequence[float], fpir: float | None = None
    ) -> list[Verdict]:
        """Each score judged by itself."""
        judged = [await self.judge(collection, by, [score], fpir) for score in scores]
        return [Verdict(one.probabilities[0], one.decision, one.reason) for one in judged]

    def _look_up(self, name: str, by: By) -> tuple[_Learnt | None, int]:
        """What was learnt, and how many items there are now: one look at the store, since every search takes it."""
        stored, items = self._store.calibrations.calibration(name, by), self._store.count(name)
        if stored is None:
            return None, items
        known = self._read.get((name, by))
        if known is None or known[0] != stored.created_at:
            data = json.loads(stored.data)
            made = Calibration.model_validate(data["calibration"]) if data["calibration"] else None
            known = (stored.created_at, _Learnt(stored, data["fpir"], made, data["refused"]))
            self._read[name, by] = known
        return known[1], items

    async def _renew(self, name: str, fpir: float, items: int) -> None:
        """Have the collection calibrated again, once at a time. A job that is not taken keeps no search from its answer."""
        last = self._renewals.get(name)
        if self._jobs is None or (last is not None and await self._stands(self._jobs, last, items)):
            return
        if self._renewals.get(name) is not last:  # another search was faster
            return
        self._renewals[name] = _Renewal("", items)
        try:
            job = await self._jobs.submit("calibrate", {"collection": name, "fpir": fpir})
        except (Overloaded, Unavailable) as error:  # the next search asks again
            log.warning("a collection is not calibrated again: %s", error)
            del self._renewals[name]
        else:
            self._renewals[name] = _Renewal(job.id, items)

    async def _stands(self, jobs: Jobs, last: _Renewal, items: int) -> bool:
        """Whether no other job is wanted: the last one goes on, or failed, as it would again while the collection is the same."""
        if not last.job_id:
            return True
        try:
            job = await jobs.get(last.job_id)
        except UnknownJob:
            return False
        return not job.ended or (job.state == "failed" and not _differ(items, last.items))


def _outgrown(stored: Calibrated, items: int) -> bool:
    return _differ(items, stored.items_count)


def _sentence(*parts: str | None) -> str:
    return "; ".join(part for part in parts if part is not None)


def _differ(items: int, then: int) -> bool:
    return abs(items - then) >= max(1, OUTGROWN * then)


def _labelled(gallery: Gallery) -> Labelled:
    """All items; background and who has no person is nobody: found by mistake, never asked for. No camera may be any."""
    persons = [
        None if item.person_id is None or is_background(item.person_id) else item.person_id for item in gallery.items
    ]
    cameras = [item.camera_id for item in gallery.items]
    return Labelled(gallery.vectors, _numbered(persons), _numbered(cameras))


def _numbered(texts: Sequence[str | None]) -> Ints:
    """A number for each distinct text; -1 where there is none."""
    numbers = {text: number for number, text in enumerate(sorted({text for text in texts if text is not None}))}
    return np.array([-1 if text is None else numbers[text] for text in texts], dtype=np.int64)


def _learn(trials_of: Callable[[Labelled], Trials], rows: Labelled) -> tuple[Calibration | None, str | None]:
    """A calibration, or why there is none."""
    try:
        return calibrate(trials_of(rows)), None
    except TooFewLabels as error:
        return None, str(error)
