"""One example of each body, for OpenAPI. A test validates every one."""

from typing import Any

from pydantic import BaseModel

from app.api import evaluation, jobs, schemas, searching, upkeep
from app.core.protocols import PROTOCOLS

_MODEL = {"fingerprint": "onnx-fp32-3f9a61c2b07d4e85", "label": "demo model, trained on drawn people, not for real use"}
_ID = "e56fcfea3bcbb8b3f49a9593b8f9100bde724e16d3ea56a82fca4fa503c50123"
_PERSON = {
    "person_id": "0005",
    "camera_id": "2",
    "captured_at": "2026-03-01T10:00:00Z",
    "source": "0005_c2_f0046985.jpg",
}
_COLLECTION = {
    "name": "lobby",
    "items": 852,
    "keep_crops": False,
    "keep_days": 30,
    "camera_keep_days": {"7": 7},
    "fingerprint": "onnx-fp32-3f9a61c2b07d4e85",
    "dim": 2048,
    "created_at": "2026-03-01T09:00:00Z",
}
_ITEM = {"id": _ID, "sha256": _ID, "attributes": {"coat": "red"}, **_PERSON}
_PROBLEM = {
    "type": "urn:reid:problem:bad_image",
    "title": "Unprocessable Entity",
    "status": 422,
    "code": "bad_image",
    "detail": "x.jpg: not a whole JPEG, PNG, WEBP or BMP image",
    "request_id": "f40e24dcc52c443abf13e45a96aaf366",
}
_MATCHES = [{"rank": 1, "id": _ID, "score": 0.806, **_PERSON}]
_SEARCHED = {"decode": 1.2, "queue": 0.04, "infer": 6.1, "search": 1.1}
_EVALUATED = {
    "mAP": 0.81, "mINP": 0.52, "rank1": 0.92, "rank5": 0.96, "rank10": 0.97, "rank20": 0.98, "rank50": 0.99,
    "valid_queries": 240, "queries": 252, "gallery": 852, "interval95": {"mAP": [0.77, 0.85], "rank1": [0.88, 0.95]},
    "reason": None, "what": PROTOCOLS["instance"].sentence, "over_orders": None, "published": [], "cmc": [0.92, 0.94],
}  # fmt: skip
_COUNTS = {"used": 852, "junk": 0, "skipped": 1, "refused": []}
_JOB = {
    "id": "8a6f1c0e5d2b4f7796c3d1e0",
    "kind": "evaluate",
    "params": {"folder": "/data/market"},
    "state": "done",
    "created_at": "2026-03-01T10:00:00Z",
    "started_at": "2026-03-01T10:00:00Z",
    "ended_at": "2026-03-01T10:04:10Z",
    "progress": {"done": 1104, "total": 1104, "note": ""},
    "error": None,
}

# A body whose schema stands in its route, not among the components.
VECTORS: dict[str, Any] = {
    "fingerprint": "om-fp16-5dbdb1a656b3a60c",
    "items": [{"vector": "7FFQQUjhisE=", "person_id": "0005", "camera_id": "2", "source": "0005_c2_f0046985.jpg"}],
}
_EVALUATION = {
    "protocols": {"instance": _EVALUATED},
    "omitted": {},
    "comparison": {"comparable": False, "reason": "the guide's 0.968 is of another data set", "reproduced": {}},
    "data": {
        "folder": "market", "collection": None, "data_set": None, "query": _COUNTS, "gallery": {**_COUNTS, "used": 852},
        "persons": 120, "cameras": 6, "order": "byte order of the file names",
    },
    "camera_pairs": [
        {"query_camera": "1", "gallery_camera": "2", "mAP": 0.8, "rank1": 0.9, "valid_queries": 40}
    ],
    "worst": [],
    "scores": {"edges": [-1.0, 0.0, 1.0], "right": [3, 237], "wrong": [200, 40]},
    "reranking": {"queries": 200, "mAP": [0.81, 0.86], "rank1": [0.92, 0.93]},
    "open_set": {"refused": "too few: 34 persons seen by two cameras; at least 60 are needed", "sentences": [],
                 "calibration": None},
    "index_agreement": {"share": None, "queries": 0, "k": 10, "reason": "a folder is in no collection"},
    "timings_ms": {"embed": 5301.0, "rank": 14.3},
}  # fmt: skip
EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    schemas.Problem: _PROBLEM,
    schemas.CollectionIn: {"keep_crops": True},
    schemas.CollectionOut: _COLLECTION,
    schemas.Collections: {"collections": [_COLLECTION]},
    schemas.ItemOut: _ITEM,
    schemas.ItemPage: {"items": [_ITEM], "next_cursor": _ID},
    schemas.IngestAnswer: {
        "results": [
            {"name": "0005_c2_f0046985.jpg", "id": _ID, "status": "added"},
            {"name": "x.jpg", "id": None, "status": "refused", "error": _PROBLEM},
        ],
        "model": _MODEL,
        "timings_ms": {"embed": 210.3, "commit": 4.1},
    },
    searching.QueryIn: {"image": "/9j/4AAQSkZJRg==", "k": 5, "camera_id": "2"},
    searching.SearchAnswer: {"matches": _MATCHES, "refused": [], "model": _MODEL, "timings_ms": _SEARCHED},
    searching.PersonsAnswer: {
        "persons": [{"rank": 1, "person_id": "0005", "score": 0.861, "items": 9, "best": _MATCHES[0]}],
        "refused": [{"name": "x.jpg", "error": _PROBLEM}],
        "model": _MODEL,
        "timings_ms": {**_SEARCHED, "rerank": 3.8},
    },
    searching.BatchIn: {
        "queries": [{"image": ["/9j/4AAQSkZJRg==", "/9j/4AAQSkZJRg=="], "k": 5}, {"vector": [0.12, -0.03]}]
    },
    searching.BatchAnswer: {
        "results": [{"matches": _MATCHES}, {"error": _PROBLEM}],
        "model": _MODEL,
        "timings_ms": _SEARCHED,
    },
    searching.VerifyIn: {"a": "/9j/4AAQSkZJRg==", "b": ["/9j/4AAQSkZJRg==", "/9j/4AAQSkZJRg=="]},
    searching.VerifyAnswer: {
        "score": 0.724,
        "probability": None,
        "decision": None,
        "decision_reason": "collection 'lobby' is not calibrated",
        "a": {"crops": 2, "refused": [], "item_id": None},
        "b": {"crops": 0, "refused": [], "item_id": _ID},
        "model": _MODEL,
        "timings_ms": {"decode": 1.2, "queue": 0.04, "infer": 6.1, "compare": 0.01},
    },
    schemas.ImagesIn: {"image": ["/9j/4AAQSkZJRg=="]},
    schemas.EmbeddingsAnswer: {
        "vectors": [[0.6, -0.8]],
        "norms": [21.7],
        "dim": 2,
        "model": _MODEL,
        "timings_ms": {"decode": 1.2, "queue": 0.04, "infer": 6.1},
    },
    evaluation.EvaluateIn: {"folder": "/data/market", "pattern": "market1501"},
    evaluation.EvaluateAnswer: {
        **_EVALUATION,
        "model": {**_MODEL, "variant": "onnx-fp32", "batch_size": None},
    },
    upkeep.Receipt: {
        "collection": "lobby",
        "items": 12,
        "erased_at": "2026-03-01T10:00:00.123456Z",
        "audit": {"seq": 42, "hash": _ID},
        "snapshots": ["20260301T090000Z-5f2c1e"],
        "unreachable": [],
        "recorded": True,
    },
    upkeep.RestoreIn: {"collection": "lobby", "as": "lobby-in-march"},
    upkeep.SnapshotOut: {
        "id": "20260301T090000Z-5f2c1e",
        "path": "/srv/snapshots/20260301T090000Z-5f2c1e",
        "created_at": "2026-03-01T09:00:00.123456Z",
        "bytes": 9482240,
        "sha256": _ID,
        "audit_seq": 41,
        "reachable": True,
        "collections": {"lobby": 852},
    },
    upkeep.CheckOut: {"ok": True, "findings": [{"what": "vectors", "looked_at": 852, "faults": []}]},
    jobs.JobOut: {**_JOB, "result": {"protocols": {"instance": {"mAP": 0.983, "rank1": 0.996}}}},
    jobs.JobPage: {"jobs": [_JOB], "next_cursor": None},
}
