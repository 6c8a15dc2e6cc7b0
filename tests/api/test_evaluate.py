"""The accuracy number through the running service equals a slow second implementation on the same vectors."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.api.evaluation import EvaluateAnswer
from app.core.preprocess import decode
from app.core.protocols import PROTOCOLS
from app.demo.dataset import Recipe, write_folder
from app.service import Service
from app.service.evaluate import Wish
from app.settings import Settings

pytestmark = pytest.mark.anyio
SMALL = Recipe(seed=3, persons=6, distractors=2, cameras=3, seen_by=0.9)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_folder(SMALL, folder)
    return folder


@pytest.fixture
def folder(drawn: Path, settings: Settings) -> Path:
    return Path(shutil.copytree(drawn, settings.data_roots[0] / "set"))


async def vectors(service: Service, split: Path) -> list[tuple[np.ndarray, str, str]]:
    """Unit vectors with labels read by splitting the name: another way than the product's."""
    rows = []
    for path in sorted(split.glob("*.jpg")):
        raw = (await service.engine.embed([decode(path.read_bytes(), path.name)]))[0].vector.astype(np.float64)
        person, camera, _ = path.name.split("_")
        rows.append((raw / np.sqrt((raw**2).sum()), person, camera))
    return rows


async def test_it_equals_a_slow_second_implementation(http: httpx.AsyncClient, service: Service, folder: Path) -> None:
    gallery = await vectors(service, folder / "bounding_box_test")
    precisions, firsts = [], []
    for vector, person, camera in await vectors(service, folder / "query"):
        kept = [row for row in gallery if not (row[1] == person and row[2] == camera)]
        ranked = sorted(kept, key=lambda row: -float(row[0] @ vector))
        ranks = [rank for rank, row in enumerate(ranked, 1) if row[1] == person]
        if ranks:
            precisions.append(np.mean([(i + 1) / rank for i, rank in enumerate(ranks)]))
            firsts.append(ranks[0])
    for path in ("/v1/evaluate", "/evaluate"):
        report = (await http.post(path, json={"folder": str(folder)})).json()["protocols"]["instance"]
        assert report["mAP"] == pytest.approx(np.mean(precisions), abs=1e-9)
        for k in (1, 5, 10, 20, 50):
            assert report[f"rank{k}"] == pytest.approx(np.mean([first <= k for first in firsts]))
        assert (report["valid_queries"], report["gallery"]) == (len(firsts), len(gallery))


async def test_what_takes_longer_than_the_caller_waits_becomes_a_job(http: httpx.AsyncClient, folder: Path) -> None:
    begun = await http.post("/v1/evaluate", json={"folder": str(folder), "wait": 0})
    assert begun.status_code == 202
    where = begun.headers["location"]
    assert where == f"/v1/jobs/{begun.json()['id']}"
    seen = set()
    while (job := (await http.get(where)).json())["state"] in ("queued", "running"):
        seen.add((job["progress"]["done"], job["progress"]["total"]))
        await asyncio.sleep(0.002)
    assert job["state"] == "done"
    crops = sum(len(list((folder / split).iterdir())) for split in ("query", "bounding_box_test"))
    assert max(total for _, total in seen) == crops
    assert all(done <= crops for done, _ in seen)
    at_once = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()
    assert job["result"]["protocols"] == at_once["protocols"]


async def test_ranking_ends_when_the_evaluation_is_cancelled(service: Service, folder: Path) -> None:
    loop, ranks, goes_on, told = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), list[str]()
    loop.set_default_executor(ThreadPoolExecutor(1))  # then the next call in it waits until the ranking has ended

    def tell(done: int, total: int, at: str) -> None:
        told.append(at)
        if at == "ranking: instance":
            loop.call_soon_threadsafe(ranks.set)
            goes_on.wait(30)

    evaluation = asyncio.create_task(service.evaluate.run(Wish(str(folder)), tell))
    await ranks.wait()
    evaluation.cancel()
    await asyncio.wait({evaluation})
    goes_on.set()
    await asyncio.to_thread(lambda: None)
    assert told[-1] == "ranking: instance"


async def test_every_protocol_is_there_under_its_name_and_the_answer_is_as_described(
    http: httpx.AsyncClient, folder: Path
) -> None:
    answer = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()
    EvaluateAnswer.model_validate(answer)
    assert list(answer["protocols"]) == list(PROTOCOLS)
    assert answer["omitted"] == {}
    assert answer["comparison"]["comparable"] is False
    assert "DukeMTMC-reID, which has 2,228 queries" in answer["comparison"]["reason"]
    assert answer["data"]["order"] == "byte order of the file names"
    assert (answer["model"]["variant"], answer["model"]["batch_size"]) == ("onnx-fp32", None)
    instance = answer["protocols"]["instance"]
    assert instance["interval95"]["mAP"][0] <= instance["mAP"] <= instance["interval95"]["mAP"][1]
    assert instance["cmc"][0] == pytest.approx(instance["rank1"], abs=1e-6)
    assert instance["cmc"][49] == pytest.approx(instance["rank50"], abs=1e-6)
    assert sum(answer["scores"]["right"]) == instance["valid_queries"]
    for worst in answer["worst"]:
        assert (folder / "query" / worst["name"]).is_file()
        assert worst["ranking"][worst["first_right"] - 1]["right"] if worst["first_right"] <= 10 else True
        assert not any(row["right"] for row in worst["ranking"][: worst["first_right"] - 1])
    assert {pair["query_camera"] for pair in answer["camera_pairs"]} == {"1", "2", "3"}


async def test_reports_can_be_read_again(http: httpx.AsyncClient, service: Service, folder: Path) -> None:
    wishes = [{"folder": str(folder), "protocols": [name]} for name in ("instance", "centroid")]
    answers = [(await http.post("/v1/evaluate", json=wish)).json() for wish in wishes]
    await http.post("/v1/evaluate", json={"folder": str(folder), "variant": "om-fp16"})  # fails
    assert (await http.post("/v1/collections/lobby/calibration")).status_code == 404
    page = (await http.get("/v1/evaluations?limit=1")).json()
    (newest,) = page["evaluations"]
    assert (newest["params"], set(newest)) == (wishes[1], {"id", "params", "created_at", "ended_at"})
    rest = (await http.get(f"/v1/evaluations?cursor={page['next_cursor']}")).json()
    assert ([one["params"] for one in rest["evaluations"]], rest["next_cursor"]) == ([wishes[0]], None)
    for one, answer in zip((newest, *rest["evaluations"]), reversed(answers), strict=True):
        assert (await http.get(f"/v1/evaluations/{one['id']}")).json() == answer


async def test_a_job_that_is_no_evaluation_or_is_not_done_has_no_report(
    http: httpx.AsyncClient, service: Service, folder: Path
) -> None:
    failed = await service.jobs.submit("evaluate", {"folder": "/nowhere"})
    other = await service.jobs.submit("calibrate", {"collection": "nowhere"})
    assert (await service.jobs.wait(other.id, 10)).ended
    for job in (failed, other):
        answer = await http.get(f"/v1/evaluations/{job.id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert f"GET /v1/jobs/{job.id} tells what it is" in answer.json()["detail"]


async def test_where_no_persons_are_in_both_there_are_nulls_and_a_reason(http: httpx.AsyncClient, folder: Path) -> None:
    for query in sorted((folder / "query").iterdir()):
        query.rename(query.with_name(f"9{query.name[1:]}"))  # persons from 9001 on
    answer = await http.post("/v1/evaluate", json={"folder": str(folder)})
    EvaluateAnswer.model_validate(answer.json())
    assert answer.status_code == 200
    for report in answer.json()["protocols"].values():
        assert (report["mAP"], report["rank1"], report["interval95"], report["valid_queries"]) == (None, None, None, 0)
        assert report["reason"] == "no query has a row of its person that counts"


async def test_only_what_is_asked_for_is_computed(http: httpx.AsyncClient, folder: Path) -> None:
    answer = (await http.post("/v1/evaluate", json={"folder": str(folder), "protocols": ["centroid"]})).json()
    assert list(answer["protocols"]) == ["centroid"]


async def index(http: httpx.AsyncClient, folder: Path, collection: str = "lobby") -> None:
    await http.put(f"/v1/collections/{collection}")
    paths = sorted(folder.glob("*.jpg"))
    for start in range(0, len(paths), 8):
        files = [("image", (path.name, path.read_bytes())) for path in paths[start : start + 8]]
        answer = await http.post(f"/v1/collections/{collection}/items?pattern=duke", files=files)
        assert answer.status_code == 200


async def test_pictures_against_a_collection_score_as_the_folders_do(http: httpx.AsyncClient, folder: Path) -> None:
    await index(http, folder / "bounding_box_test")
    files = [("image", (path.name, path.read_bytes())) for path in sorted((folder / "query").glob("*.jpg"))]
    answer = await http.post("/v1/evaluate?collection=lobby", files=files)
    EvaluateAnswer.model_validate(answer.json())
    by_folder = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()
    for name in ("instance", "centroid", "centroid_any_camera"):
        for figure in ("mAP", "mINP", "rank1", "valid_queries", "gallery"):
            assert answer.json()["protocols"][name][figure] == pytest.approx(by_folder["protocols"][name][figure])


async def test_a_collection_is_evaluated_against_itself_by_the_protocols_that_leave_the_query_out(
    http: httpx.AsyncClient, folder: Path
) -> None:
    await index(http, folder / "bounding_box_test")
    answer = (await http.post("/v1/evaluate", json={"collection": "lobby"})).json()
    EvaluateAnswer.model_validate(answer)
    assert list(answer["protocols"]) == ["instance", "centroid", "centroid_with_distractors"]
    assert set(answer["omitted"]) == set(PROTOCOLS) - set(answer["protocols"])
    assert answer["protocols"]["instance"]["queries"] == answer["protocols"]["instance"]["gallery"]
    # The demo store searches exactly: it finds the exact first ten.
    assert answer["index_agreement"] == {
        "share": 1.0,
        "queries": answer["data"]["gallery"]["used"],
        "k": 10,
        "reason": None,
    }


async def test_another_batch_size_gives_the_same_figures_and_is_named(http: httpx.AsyncClient, folder: Path) -> None:
    usual = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()
    other = (await http.post("/v1/evaluate", json={"folder": str(folder), "batch_size": 4})).json()
    assert (other["model"]["variant"], other["model"]["batch_size"]) == ("onnx-fp32", 4)
    assert other["protocols"]["instance"]["mAP"] == pytest.approx(usual["protocols"]["instance"]["mAP"], abs=1e-6)


async def test_shuffled_pictures_score_less(http: httpx.AsyncClient, folder: Path) -> None:
    honest = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()["protocols"]["instance"]
    names = sorted((folder / "bounding_box_test").iterdir())
    order = np.random.default_rng(0).permutation(len(names))
    contents = [names[i].read_bytes() for i in order]
    for name, content in zip(names, contents, strict=True):
        name.write_bytes(content)
    permuted = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()["protocols"]["instance"]
    assert permuted["mAP"] < honest["mAP"]


async def test_what_is_no_crop_is_counted_and_left_out(
    http: httpx.AsyncClient, folder: Path, picture: Callable[[int], bytes]
) -> None:
    clean = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()
    gallery = folder / "bounding_box_test"
    (gallery / "Thumbs.db").write_bytes(b"x")
    (gallery / "deeper").mkdir()
    (gallery / "hat.png").write_bytes(picture(1))
    (gallery / "-1_c1s1_000001_00.png").write_bytes(picture(2))
    (gallery / "0001_c1_broken.jpg").write_bytes(b"broken")
    (folder / "query" / "0000_c1_f1.png").write_bytes(picture(3))  # background is never asked for
    (gallery / "linked.jpg").symlink_to(gallery / "hat.png")
    answer = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()
    assert answer["protocols"] == clean["protocols"]
    counts = answer["data"]["gallery"]
    assert (counts["junk"], counts["skipped"]) == (1, 4)
    assert counts["refused"] == ["0001_c1_broken.jpg: not a whole JPEG, PNG, WEBP or BMP image"]
    assert answer["data"]["query"]["junk"] == 1


async def test_background_stays_a_distractor_in_the_gallery(
    http: httpx.AsyncClient, folder: Path, picture: Callable[[int], bytes]
) -> None:
    before = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()["protocols"]["instance"]["gallery"]
    (folder / "bounding_box_test" / "0000_c1s1_000001_00.png").write_bytes(picture(3))
    after = (await http.post("/v1/evaluate", json={"folder": str(folder)})).json()["protocols"]["instance"]["gallery"]
    assert after == before + 1


async def test_a_data_set_nested_one_folder_deeper_is_found(
    http: httpx.AsyncClient, folder: Path, settings: Settings
) -> None:
    answer = await http.post("/v1/evaluate", json={"folder": str(settings.data_roots[0])})
    assert answer.json()["data"]["folder"] == "set"
