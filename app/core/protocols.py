"""The named evaluation protocols: what a query is ranked against, and which of its own person's rows do not count.

    reports = evaluate(query, gallery)          # every protocol under its own name
    reports["instance"].report.mAP

`instance` is the field's standard. The others retrieve centroids, and need the labels of gallery and queries to build
them, which a live system does not have: they show what published numbers are made of. Two of them repeat the reference
as it was published, faults included, and depend on the order of the rows.
Source: the evaluation of Centroids-ReID (Wieczorek et al., "On the Unreasonable Effectiveness of Centroids in Image
Retrieval", 2021) as its code has it, and the postprocessing of the Ascend ModelZoo's guide.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.core.centroids import centroid
from app.core.metrics import Floats, Index, Ints, Labelled, Mask, Ranked, Report, rank, rows_by, summarise
from app.errors import BadField

SHUFFLES = 5  # orders tried beside the given one, where the order matters


@dataclass(frozen=True, slots=True)
class Protocol:
    """A name, what it stands for in one sentence, and how its index is made."""

    name: str
    sentence: str
    index: Callable[
        [Labelled, Labelled, Ints], Index
    ]  # query, gallery, the cameras that the gallery's rows are taken to have
    published: bool = False  # whether those are the reference's wrong ones, which depend on the order of the rows


@dataclass(frozen=True, slots=True)
class Range:
    """Lowest and highest figure over the given order of the rows and some shuffled ones."""

    mAP: tuple[float, float]
    rank1: tuple[float, float]
    orders: int


@dataclass(frozen=True, slots=True)
class Result:
    """A protocol's report, the figures of each query, and the range where the order of the rows matters."""

    report: Report
    ranked: Ranked
    over_orders: Range | None = None


def evaluate(
    query: Labelled,
    gallery: Labelled,
    names: Sequence[str] = (),
    shuffles: int = SHUFFLES,
    report: Callable[[str], None] = lambda name: None,
    beat: Callable[[], None] = lambda: None,
) -> dict[str, Result]:
    """All protocols, or those named, in the order of PROTOCOLS. report: told the name of each before it is computed.

    beat: called before each chunk of queries; what it raises ends the work.

    Raises BadField for an unknown name.
    """
    check_names(names)
    results = {}
    for name, protocol in PROTOCOLS.items():
        if not names or name in names:
            report(name)
            results[name] = _evaluate(protocol, query, gallery, shuffles, beat)
    return results


def check_names(names: Iterable[str]) -> None:
    """Raises BadField for a name that is no protocol's."""
    if unknown := set(names) - set(PROTOCOLS):
        raise BadField("protocols", f"{', '.join(sorted(unknown))}: no such protocol; there are {', '.join(PROTOCOLS)}")


def _evaluate(
    protocol: Protocol, query: Labelled, gallery: Labelled, shuffles: int, beat: Callable[[], None]
) -> Result:
    camids = published_camids(query, gallery) if protocol.published else gallery.camids
    index = protocol.index(query, gallery, camids)
    ranked, over_orders = rank(query, index, beat), None
    if protocol.published and shuffles:
        over_orders = _over_orders(protocol, query, gallery, ranked, shuffles, beat)
    return Result(summarise(ranked, len(index.pids)), ranked, over_orders)


def _over_orders(
    protocol: Protocol, query: Labelled, gallery: Labelled, given: Ranked, shuffles: int, beat: Callable[[], None]
) -> Range | None:
    """The rows stay where they are; only the cameras are read as they would be in another order."""
    rng = np.random.default_rng(0)
    every = [given]
    for _ in range(shuffles):
        asked, kept = rng.permutation(len(query.pids)), rng.permutation(len(gallery.pids))
        camids = np.empty_like(gallery.camids)
        camids[kept] = np.concatenate([query.camids[asked], gallery.camids[kept]])[: len(kept)]
        every.append(rank(query, protocol.index(query, gallery, camids), beat))
    means = [(one.precision[one.valid].mean(), (one.first[one.valid] == 1).mean()) for one in every if one.valid.any()]
    if not means:
        return None
    lowest, highest = np.min(means, axis=0), np.max(means, axis=0)
    return Range((float(lowest[0]), float(highest[0])), (float(lowest[1]), float(highest[1])), len(every))


# What is ranked


def _images(query: Labelled, gallery: Labelled, camids: Ints) -> Index:
    """Every row; those of the query's person in the query's camera do not count."""
    return Index(gallery.vectors, gallery.pids, lambda rows, camera: np.asarray(camids[rows] == camera))


def _camera_aware(query: Labelled, gallery: Labelled, camids: Ints) -> Index:
    return _hiding(_centroids(query, gallery, camids), gallery)


def _with_distractors(query: Labelled, gallery: Labelled, camids: Ints) -> Index:
    return _hiding(_centroids(query, gallery, camids, distractors=True), gallery)


def _modelzoo(query: Labelled, gallery: Labelled, camids: Ints) -> Index:
    return _showing(_centroids(query, gallery, camids), gallery)


def _any_camera(query: Labelled, gallery: Labelled, camids: Ints) -> Index:
    of_each = [
        _Centroid(pid, centroid(gallery.vectors[rows]), frozenset()) for pid, rows in rows_by(gallery.pids).items()
    ]
    return _showing(of_each, gallery)


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("instance", "images; those of the query's person in the query's camera do not count", _images),
        Protocol(
            "centroid",
            "for each person and each camera with a query of it, the mean of the person's crops in other cameras; "
            "means that contain the query's camera do not count",
            _camera_aware,
        ),
        Protocol(
            "centroid_with_distractors",
            "as centroid, and a person without a query keeps one mean of all its crops",
            _with_distractors,
        ),
        Protocol(
            "centroid_published",
            "as centroid, with camera ids read from the wrong place, as the reference does",
            _camera_aware,
            published=True,
        ),
        Protocol(
            "centroid_modelzoo",
            "as centroid_published, and nothing is left out: the guide's postprocess with USE_CENTROIDS False",
            _modelzoo,
            published=True,
        ),
        Protocol("centroid_any_camera", "one mean for each person of the gallery; nothing is left out", _any_camera),
    )
}


def published_camids(query: Labelled, gallery: Labelled) -> Ints:
    """The camera that the reference takes gallery row i to have: that of row i of query and gallery, one after the other.

    Its gallery rows index the joined array of cameras instead of that array's gallery part.
    """
    return np.concatenate([query.camids, gallery.camids])[: len(gallery.camids)]


@dataclass(frozen=True, slots=True)
class _Centroid:
    pid: int
    vector: Floats
    cameras: frozenset[int]  # that contributed


def _centroids(query: Labelled, gallery: Labelled, camids: Ints, distractors: bool = False) -> list[_Centroid]:
    """Persons ascending, and for each the cameras with a query of it, ascending; a set of cameras is used once."""
    asked = {pid: np.unique(query.camids[rows]) for pid, rows in rows_by(query.pids).items()}
    made: list[_Centroid] = []
    for pid, rows in rows_by(gallery.pids).items():
        seen_by, sets = camids[rows], set[frozenset[int]]()
        left_out = asked.get(pid)
        if left_out is None:
            if distractors:
                made.append(_Centroid(pid, centroid(gallery.vectors[rows]), frozenset(seen_by.tolist())))
            continue
        for camera in left_out:
            others = seen_by != camera
            cameras = frozenset(seen_by[others].tolist())
            if cameras and cameras not in sets:
                sets.add(cameras)
                made.append(_Centroid(pid, centroid(gallery.vectors[rows[others]]), cameras))
    return made


def _hiding(made: Sequence[_Centroid], gallery: Labelled) -> Index:
    """A centroid does not count for a query of its person from a camera that is in it."""

    def hidden(rows: Ints, camera: int) -> Mask:
        return np.array([camera in made[row].cameras for row in rows], dtype=bool)

    return _index(made, gallery, hidden)


def _showing(made: Sequence[_Centroid], gallery: Labelled) -> Index:
    return _index(made, gallery, lambda rows, camera: np.zeros(len(rows), dtype=bool))


def _index(made: Sequence[_Centroid], gallery: Labelled, hidden: Callable[[Ints, int], Mask]) -> Index:
    dim = gallery.vectors.shape[1]
    vectors = np.stack([one.vector for one in made]) if made else np.empty((0, dim), dtype=np.float32)
    return Index(vectors, np.array([one.pid for one in made], dtype=np.int64), hidden)
