"""A collection learns what its scores mean, keeps it, and says so with every answer; or says why it cannot."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from app.core.jobs import Job
from app.service import Service

pytestmark = pytest.mark.anyio
PERSONS, CAMERAS, DIM = 120, 3, 128
RNG = np.random.default_rng(0)
DIRECTIONS = RNG.normal(size=(PERSONS, DIM))


def crop_of(person: int, spread: float = 0.7) -> list[float]:
    """A made-up vector: the person's direction and some noise."""
    vector: list[float] = (DIRECTIONS[person] + spread * RNG.normal(size=DIM)).tolist()
    return vector


async def fill(http: httpx.AsyncClient, service: Service, persons: range = range(PERSONS), name: str = "lobby") -> None:
    """One crop of every person from each camera."""
    await http.put(f"/v1/collections/{name}")
    items = [
        {"id": f"{p}-{c}", "vector": _base64(crop_of(p)), "person_id": str(p + 1), "camera_id": str(c)}
        for p in persons
        for c in range(CAMERAS)
    ]
    for start in range(0, len(items), 8):
        body = {"fingerprint": service.model.fingerprint, "items": items[start : start + 8]}
        answer = await http.post(f"/v1/collections/{name}/items", json=body)
        assert answer.status_code == 200, answer.text


def _base64(vector: list[float]) -> str:
    return base64.b64encode(np.array(vector, dtype="<f4").tobytes()).decode()


async def calibrate(http: httpx.AsyncClient, name: str = "lobby", **how: Any) -> dict[str, Any]:
    answer = await http.post(f"/v1/collections/{name}/calibration", json=how)
    assert answer.status_code == 200, answer.text
    learnt: dict[str, Any] = answer.json()["calibrations"]
    return learnt


async def ask(http: httpx.AsyncClient, vector: list[float], **options: Any) -> dict[str, Any]:
    answer = await http.post("/v1/collections/lobby/search", json={"vector": vector, "camera_id": "0", **options})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_before_it_is_calibrated_there_is_no_decision_and_the_answer_says_how_to_get_one(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, range(3))
    found = await ask(http, crop_of(1))
    assert found["decision"] is None
    assert "not calibrated: POST /v1/collections/lobby/calibration" in found["decision_reason"]
    assert {match["probability"] for match in found["matches"]} == {None}


async def test_a_known_person_is_a_match_and_a_stranger_is_unknown(http: httpx.AsyncClient, service: Service) -> None:
    await fill(http, service)
    learnt = await calibrate(http)
    assert set(learnt) == {"item", "person", "pair"}
    for one in learnt.values():
        assert one["refused"] is None
        assert one["calibration"]["ece_after"] < one["calibration"]["ece_before"]
        assert (one["items"], one["stale"], one["fpir"]) == (PERSONS * CAMERAS, False, 0.01)
    for by in ("item", "person"):
        known = await ask(http, crop_of(5), by=by)
        assert (known["decision"], known["decision_reason"]) == ("match", None)
        ranked = known["matches" if by == "item" else "persons"]
        assert ranked[0]["person_id"] == "6"
        assert ranked[0]["probability"] > 0.9
        assert ranked[-1]["probability"] < 0.5
        stranger = await ask(http, RNG.normal(size=DIM).tolist(), by=by)
        assert stranger["decision"] == "unknown"
        assert stranger["matches" if by == "item" else "persons"][0]["probability"] < 0.1


async def test_a_rate_that_cannot_be_told_gives_no_decision_but_says_what_is_missing(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service)
    await calibrate(http)
    found = await ask(http, crop_of(5), fpir=0.001)
    assert found["decision"] is None
    assert found["decision_reason"] == "cannot be told: 360 searches for absent persons; at least 1000 are needed"
    assert found["matches"][0]["probability"] > 0.9
    assert (await ask(http, crop_of(5), fpir=0.05))["decision"] == "match"


async def test_too_few_persons_are_refused_with_their_number(http: httpx.AsyncClient, service: Service) -> None:
    await fill(http, service, range(34))
    learnt = await calibrate(http)
    sentence = "too few: 34 persons seen by two cameras; at least 60 are needed"
    assert learnt["item"]["refused"] == sentence
    found = await ask(http, crop_of(5))
    assert (found["decision"], found["decision_reason"]) == (None, sentence)


async def test_a_collection_that_has_grown_marks_its_calibration_and_renews_it(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, range(100))
    await calibrate(http)
    await fill(http, service, range(100, 110))  # a tenth more
    found = await ask(http, crop_of(5))
    assert found["decision"] == "match"
    assert found["decision_reason"] == "stale: calibrated with 300 items, the collection has 330"
    assert (await http.get("/v1/collections/lobby/calibration")).json()["calibrations"]["item"]["stale"] is True
    service.calibrations.renew_with(service.jobs)  # as `reid serve` does
    await ask(http, crop_of(5))
    (job, *_) = (await http.get("/v1/jobs")).json()["jobs"]
    assert (job["kind"], job["params"]) == ("calibrate", {"collection": "lobby", "fpir": 0.01})
    await service.jobs.wait(job["id"], 60)
    assert (await ask(http, crop_of(5)))["decision_reason"] is None


async def test_a_renewal_that_was_cancelled_is_asked_for_again_and_one_that_waits_is_not(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, range(100))
    await calibrate(http)
    await fill(http, service, range(100, 110))
    service.calibrations.renew_with(service.jobs)
    gate = asyncio.Event()

    async def hold(job: Job, report: object) -> dict[str, Any]:
        await gate.wait()
        return {}

    service.jobs.register("hold", hold)
    await service.jobs.submit("hold", {})  # what comes behind it waits

    async def renewals() -> list[str]:
        jobs = (await http.get("/v1/jobs")).json()["jobs"]
        return [job["id"] for job in jobs if job["kind"] == "calibrate" and job["state"] == "queued"]

    await asyncio.gather(*(ask(http, crop_of(5)) for _ in range(3)))
    (waiting,) = await renewals()
    await http.delete(f"/v1/jobs/{waiting}")
    await ask(http, crop_of(5))
    (again,) = await renewals()
    assert again != waiting
    gate.set()


async def test_two_crops_are_the_same_person_or_not(
    http: httpx.AsyncClient, service: Service, picture: Callable[[int], bytes]
) -> None:
    await fill(http, service)
    await calibrate(http)
    files = [("a", ("a.png", picture(1))), ("b", ("b.png", picture(1)))]
    same = (await http.post("/v1/verify?collection=lobby", files=files)).json()
    assert same["score"] == pytest.approx(1, abs=1e-5)
    assert (same["decision"], same["decision_reason"]) == ("match", None)
    assert same["probability"] > 0.9


async def test_who_does_not_wait_gets_a_job(http: httpx.AsyncClient, service: Service) -> None:
    await fill(http, service)
    begun = await http.post("/v1/collections/lobby/calibration", json={"wait": 0})
    assert begun.status_code == 202
    job = await service.jobs.wait(begun.json()["id"], 60)
    assert begun.headers["location"] == f"/v1/jobs/{job.id}"
    assert job.state == "done"


async def test_a_calibration_goes_with_its_collection(http: httpx.AsyncClient, service: Service) -> None:
    await fill(http, service)
    await calibrate(http)
    await http.delete("/v1/collections/lobby")
    await fill(http, service, range(3))
    assert (await http.get("/v1/collections/lobby/calibration")).json() == {"calibrations": {}}
    assert (await ask(http, crop_of(1)))["decision"] is None
