"""An evaluation in the words of the API: plain values for JSON, the same from a server and from a file of vectors."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from app.core.accuracy import Accuracy
from app.core.assessment import Listed, Worst
from app.core.decision import Calibration, describe
from app.core.metrics import RANKS, cmc
from app.core.protocols import PROTOCOLS, Result
from app.core.splits import Sides, SplitCounts

Json = dict[str, Any]
ROUNDED = 6  # digits behind the point of scores and of points of curves; averages stay as they are
BY_NAME = "byte order of the file names"


def as_json(accuracy: Accuracy) -> Json:
    """Everything but the data's source, the model and the times, which the caller adds."""
    cameras = accuracy.sides.cameras
    return {
        "protocols": {name: _protocol(name, result, accuracy) for name, result in accuracy.results.items()},
        "omitted": dict(accuracy.omitted),
        "comparison": {
            "comparable": accuracy.comparison.comparable,
            "reason": accuracy.comparison.reason,
            "reproduced": dict(accuracy.comparison.reproduced),
        },
        "camera_pairs": [
            asdict(pair) | {"query_camera": cameras[pair.query_camera], "gallery_camera": cameras[pair.gallery_camera]}
            for pair in accuracy.pairs
        ],
        "worst": [_worst(one, accuracy.sides) for one in accuracy.worst],
        "scores": {
            "edges": [round(edge, ROUNDED) for edge in accuracy.scores.edges.tolist()],
            "right": accuracy.scores.right.tolist(),
            "wrong": accuracy.scores.wrong.tolist(),
        },
        "reranking": asdict(accuracy.reranking) if accuracy.reranking else None,
        "open_set": _open_set(accuracy.open_set),
    }


def data_json(accuracy: Accuracy, query: SplitCounts, gallery: SplitCounts, order: str, **source: str | None) -> Json:
    """What the figures rest on; `folder=` or `collection=` names the source."""
    named: Json = {"folder": None, "collection": None, **source}
    return named | {
        "data_set": accuracy.data_set,
        "query": asdict(query),
        "gallery": asdict(gallery),
        "persons": len(accuracy.sides.persons),
        "cameras": len(accuracy.sides.cameras),
        "order": order,
    }


def no_agreement(reason: str) -> Json:
    """Where there is no live store to compare with."""
    return {"share": None, "queries": 0, "k": 10, "reason": reason}


def _protocol(name: str, result: Result, accuracy: Accuracy) -> Json:
    report, orders = result.report, result.over_orders
    return {
        "mAP": report.mAP,
        "mINP": report.mINP,
        **{f"rank{k}": report.ranks[k] for k in RANKS},
        "valid_queries": report.valid_queries,
        "queries": report.queries,
        "gallery": report.gallery,
        "interval95": asdict(report.interval95) if report.interval95 else None,
        "reason": report.reason,
        "what": PROTOCOLS[name].sentence,
        "over_orders": asdict(orders) if orders else None,
        "published": [{"rank1": f.rank1, "mAP": f.mAP, "source": f.source} for f in accuracy.published[name]],
        "cmc": [round(share, ROUNDED) for share in cmc(result.ranked)],
    }


def _open_set(found: Calibration | str) -> Json:
    if isinstance(found, str):
        return {"refused": found, "sentences": [], "calibration": None}
    return {"refused": None, "sentences": describe(found), "calibration": found.model_dump(mode="json")}


def _worst(one: Worst, sides: Sides) -> Json:
    return {
        "name": _name(sides.query_names, one.query),
        "person_id": sides.persons[sides.query.pids[one.query]],
        "camera_id": sides.cameras[sides.query.camids[one.query]],
        "average_precision": one.precision,
        "first_right": one.first,
        "ranking": [_listed(row, sides) for row in one.head],
    }


def _listed(row: Listed, sides: Sides) -> Json:
    return {
        "name": _name(sides.gallery_names, row.row),
        "person_id": sides.persons[sides.gallery.pids[row.row]],
        "camera_id": sides.cameras[sides.gallery.camids[row.row]],
        "score": round(row.score, ROUNDED),
        "right": row.right,
    }


def _name(names: Sequence[str], row: int) -> str | None:
    return names[row] if names else None
