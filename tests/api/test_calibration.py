"""A collection learns what its scores mean, keeps it, and says so with every answer; or says why it cannot."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from app.core.jobs import Job
from app.errors import BadInput
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


async def test_a_rate_that_none_tells_is_refused_whether_the_collection_is_calibrated_or_not(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, range(3))
    body = {"vector": crop_of(1), "fpir": 0.02}
    refused = await http.post("/v1/collections/lobby/search", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_field")
    assert refused.json()["detail"] == "fpir: is 0.02; one of 0.001, 0.01, 0.05 is told"


async def test_a_persons_best_item_is_judged_as_an_item_is(http: httpx.AsyncClient, service: Service) -> None:
    await fill(http, service)
    await calibrate(http)
    for person in range(5):
        asked = crop_of(person, spread=1.5)
        item = await ask(http, asked, k=1)
        best = await ask(http, asked, k=1, by="person", person_score="best")
        assert best["persons"][0]["score"] == item["matches"][0]["score"]
        assert best["persons"][0]["probability"] == item["matches"][0]["probability"]
        assert best["decision"] == item["decision"]


async def test_nobody_is_called_unknown_because_min_score_left_a_match_out(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service)
    await calibrate(http)
    known, stranger = crop_of(5), RNG.normal(size=DIM).tolist()
    (top,) = (await ask(http, known, k=1))["matches"]
    left = await ask(http, known, min_score=0.999)
    assert (left["matches"], left["decision"]) == ([], None)
    assert left["decision_reason"] == f"min_score leaves out the best match, whose score is {top['score']:.3f}"
    assert (await ask(http, stranger, min_score=0.999))["decision"] == "unknown"
    assert (await ask(http, known, persons=["nobody"]))[
        "decision"
    ] == "unknown"  # nothing was left out: there is nothing


async def test_a_collection_that_has_grown_marks_its_calibration_and_renews_it(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, range(100))
    await calibrate(http)
    await fill(http, service, range(100, 110))  # a tenth more
    found = await ask(http, crop_of(5))
    assert found["decision"] == "match"
    stale = "stale: calibrated with 300 items, the collection has 330"
    assert found["decision_reason"] == stale
    strict = (await ask(http, crop_of(5), fpir=0.001))["decision_reason"]
    assert strict == f"cannot be told: 300 searches for absent persons; at least 1000 are needed; {stale}"
    assert (await http.get("/v1/collections/lobby/calibration")).json()["calibrations"]["item"]["stale"] is True
    service.calibrations.renew_with(service.jobs)  # as `reid serve` does
    await ask(http, crop_of(5))
    (job, *_) = (await http.get("/v1/jobs")).json()["jobs"]
    assert (job["kind"], job["params"]) == ("calibrate", {"collection": "lobby", "fpir": 0.01})
    await service.jobs.wait(job["id"], 60)
    assert (await ask(http, crop_of(5)))["decision_reason"] is None


async def test_a_refusal_is_thought_over_when_the_collection_has_grown(
    http: httpx.AsyncClient, service: Service
) -> None:
    service.calibrations.renew_with(service.jobs)
    await fill(http, service, range(34))
    await calibrate(http)
    await fill(http, service, range(34, 100))
    found = await ask(http, crop_of(5))
    assert found["decision"] is None
    assert found["decision_reason"] == (
        "too few: 34 persons seen by two cameras; at least 60 are needed; "
        "stale: calibrated with 102 items, the collection has 300"
    )
    (job, *_) = (await http.get("/v1/jobs")).json()["jobs"]
    await service.jobs.wait(job["id"], 60)
    assert (await ask(http, crop_of(5)))["decision"] == "match"


async def test_a_renewal_that_failed_is_not_asked_for_again_before_the_collection_has_grown_further(
    http: httpx.AsyncClient, service: Service
) -> None:
    await fill(http, service, range(90))
    await calibrate(http)
    service.calibrations.renew_with(service.jobs)

    async def fail(job: Job, report: object) -> dict[str, Any]:
        raise BadInput("too large")

    service.jobs.register("calibrate", fail)

    async def renewals() -> int:
        jobs = [job for job in (await http.get("/v1/jobs")).json()["jobs"] if job["kind"] == "calibrate"]
        for job in jobs:
            await service.jobs.wait(job["id"], 60)
        return len(jobs) - 1  # the first one was asked for by hand

    await fill(http, service, range(90, 100))
    for _ in range(3):
        assert (await ask(http, crop_of(5)))["decision_reason"].startswith("stale")
        assert await renewals() == 1
    await fill(http, service, range(100, 109))  # 327 items: not yet a tenth more than the 300 that failed
    await ask(http, crop_of(5))
    assert await renewals() == 1
    await fill(http, service, range(109, 110))
    await ask(http, crop_of(5))
    assert await renewals() == 2


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
    # 1,440 pairs of two persons tell 0.1 %, which 360 searches for absent ones do not.
    strict = (await http.post("/v1/verify?collection=lobby&fpir=0.001", files=files)).json()
    assert (strict["decision"], strict["decision_reason"]) == ("match", None)
    refused = await http.post("/v1/verify?collection=lobby&fpir=0.02", files=files)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_field")


async def test_the_rate_that_is_asked_for_decides(
    http: httpx.AsyncClient, service: Service, picture: Callable[[int], bytes]
) -> None:
    await fill(http, service)
    borders = {s["fpir"]: s["threshold"] for s in (await calibrate(http))["pair"]["calibration"]["settings"]}
    assert borders[0.001] > borders[0.01] > borders[0.05]
    # An item at an angle from the crop whose cosine lies between the borders of 1 % and of 5 %.
    (crop,) = (await http.post("/v1/embeddings", files=[("image", picture(1))])).json()["vectors"]
    aside = np.eye(DIM)[0] - np.array(crop) * crop[0]
    cosine = (borders[0.01] + borders[0.05]) / 2
    vector = cosine * np.array(crop) + np.sqrt(1 - cosine**2) * aside / np.linalg.norm(aside)
    item = {"id": "near", "vector": _base64(vector.tolist())}
    body = {"fingerprint": service.model.fingerprint, "items": [item]}
    assert (await http.post("/v1/collections/lobby/items", json=body)).status_code == 200
    told = {}
    for fpir in (0.01, 0.05):
        url = f"/v1/verify?collection=lobby&item_id=near&fpir={fpir}"
        told[fpir] = (await http.post(url, files=[("a", picture(1))])).json()["decision"]
    assert told[0.05] == "match" != told[0.01]
    coded = {"a": base64.b64encode(picture(1)).decode(), "collection": "lobby", "item_id": "near", "fpir": 0.05}
    assert (await http.post("/v1/verify", json=coded)).json()["decision"] == "match"


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
