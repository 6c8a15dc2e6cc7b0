"""Figures that others published, each for the data set and the protocol it belongs to, and whether ours reproduce one."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.core.metrics import Labelled
from app.core.protocols import Result

WITHIN = 0.005  # of rank-1: what another decoder, another float and the order of files may change


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set told by its counts: whoever has other ones has another set, or a part of it."""

    name: str
    queries: int
    query_persons: int
    gallery: int
    gallery_persons: int


@dataclass(frozen=True, slots=True)
class Figure:
    """What somebody measured, as fractions."""

    data_set: str
    protocols: tuple[str, ...]  # those that it may be of
    rank1: float
    mAP: float
    source: str


DUKE = DataSet("DukeMTMC-reID", 2228, 702, 17661, 1110)
MARKET = DataSet("Market-1501", 3368, 750, 15913, 751)
DATA_SETS = (DUKE, MARKET)

# Which of the two protocols made the ModelZoo's figures depends on the checkpoint's MODEL.USE_CENTROIDS, which nobody states.
GUIDE = Figure(
    DUKE.name,
    ("centroid_published", "centroid_modelzoo"),
    0.968,
    0.974,
    "Ascend ModelZoo, centroids-reid, README of 2022-07, OM on Ascend310P3",
)
FIGURES = (
    GUIDE,
    Figure(
        DUKE.name,
        ("centroid_published", "centroid_modelzoo"),
        0.956,
        0.961,
        "Ascend ModelZoo, centroids-reid, README of 2022-07, column for the open-source model",
    ),
    Figure(MARKET.name, ("instance",), 0.939, 0.854, "mikwieczorek/centroids-reid#5, with the published weights"),
    Figure(
        MARKET.name,
        ("centroid_published",),
        0.985,
        0.987,
        "mikwieczorek/centroids-reid#14, with the published weights",
    ),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether the guide's figure was reproduced, by protocol; or why nothing can be said."""

    comparable: bool
    reason: str | None
    reproduced: Mapping[str, bool]


def data_set_of(query: Labelled, gallery: Labelled) -> DataSet | None:
    """The data set of these counts, if there is one."""
    counts = tuple(n for rows in (query, gallery) for n in (len(rows.pids), len(set(rows.pids.tolist()))))
    found = (s for s in DATA_SETS if (s.queries, s.query_persons, s.gallery, s.gallery_persons) == counts)
    return next(found, None)


def figures_of(data_set: DataSet | None, protocol: str) -> tuple[Figure, ...]:
    """What was published for this set and this protocol."""
    return tuple(f for f in FIGURES if data_set is not None and f.data_set == data_set.name and protocol in f.protocols)


def compare_with_guide(
    query: Labelled, gallery: Labelled, results: Mapping[str, Result], use_centroids: bool | None
) -> Comparison:
    """Whether 0.968 came out again, by the protocol that the checkpoint's USE_CENTROIDS selects; by both where it is unknown."""
    if data_set_of(query, gallery) != DUKE:
        counts = f"{len(query.pids)} queries of {len(set(query.pids.tolist()))} persons and {len(gallery.pids)} gallery crops"
        return Comparison(
            False,
            f"the guide's 0.968 is of {DUKE.name}, which has {DUKE.queries:,} queries of {DUKE.query_persons} persons and "
            f"{DUKE.gallery:,} gallery crops of {DUKE.gallery_persons:,}; here are {counts} of "
            f"{len(set(gallery.pids.tolist()))}",
            {},
        )
    chosen = {None: GUIDE.protocols, True: GUIDE.protocols[:1], False: GUIDE.protocols[1:]}[use_centroids]
    computed = {name: results[name].report.ranks[1] for name in chosen if name in results}
    if not computed:
        return Comparison(False, f"{' and '.join(chosen)} was not asked for", {})
    near = {name: rank1 is not None and abs(rank1 - GUIDE.rank1) <= WITHIN for name, rank1 in computed.items()}
    return Comparison(True, None, near)
