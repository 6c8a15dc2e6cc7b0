"""What evaluations take and give, on the wire. The answer is written by `app.core.accuracy_report`; here it is described."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from app.api.schemas import ModelName, _In, _Out


class EvaluateIn(_In):
    """What to evaluate: a folder below one of REID_DATA_ROOTS, or a collection."""

    folder: str | None = Field(None, min_length=1, max_length=4096, description="With query/ and bounding_box_test/.")
    collection: str | None = Field(None, max_length=64, description="Each labelled item against the others.")
    pattern: str = Field(
        "auto", max_length=1000, description="auto, duke, market1501, msmt17, or a regular expression."
    )
    protocols: list[str] = Field(default_factory=list, max_length=20, description="All where none is named.")
    variant: str | None = Field(None, max_length=64, description="Embed with this variant; else the loaded one.")
    batch_size: int | None = Field(None, ge=1, le=256, description="Embed at this batch size alone.")
    wait: float = Field(30.0, ge=0, le=600, description="Seconds to wait for the answer before it becomes a job.")


class QueriesIn(_In):
    """What pictures sent as queries are evaluated against."""

    collection: str | None = Field(None, max_length=64)
    pattern: str = Field("auto", max_length=1000, description="How the pictures' names tell person and camera.")
    protocols: list[str] = Field(default_factory=list, max_length=20, description="All where none is named.")


class EvaluatedModel(ModelName):
    """Which model was evaluated, and how it ran."""

    variant: str
    batch_size: int | None = Field(description="The only one that it ran; null where it took the one that fits.")


class IntervalOut(_Out):
    """Percentile bootstrap over queries, 1,000 resamples: 95 % lie between the two."""

    mAP: tuple[float, float]
    rank1: tuple[float, float]


class RangeOut(IntervalOut):
    """Lowest and highest over several orders of the rows, for protocols whose figures depend on it."""

    orders: int


class PublishedOut(_Out):
    """What somebody else measured on the same data by the same protocol."""

    rank1: float
    mAP: float
    source: str


class ProtocolReport(_Out):
    """Fractions 0..1, null where no query was valid, and then `reason` says why."""

    mAP: float | None
    mINP: float | None
    rank1: float | None
    rank5: float | None
    rank10: float | None
    rank20: float | None
    rank50: float | None
    valid_queries: int
    queries: int
    gallery: int
    interval95: IntervalOut | None
    reason: str | None = None
    what: str
    over_orders: RangeOut | None = None
    published: list[PublishedOut] = Field(default_factory=list)
    cmc: list[float] = Field(default_factory=list, description="rank-1 to rank-50.")


class ComparisonOut(_Out):
    """Whether the guide's 0.968 came out again, by protocol, or why nothing can be said."""

    comparable: bool
    reason: str | None
    reproduced: dict[str, bool]


class CountsOut(_Out):
    """What of a split was used."""

    used: int
    junk: int
    skipped: int
    refused: list[str]


class DataOut(_Out):
    """What the figures rest on. `order`: how the rows were ordered, which matters to the protocols as published."""

    folder: str | None = None
    collection: str | None = None
    data_set: str | None
    query: CountsOut
    gallery: CountsOut
    persons: int
    cameras: int
    order: str


class CameraPairOut(_Out):
    """Queries of one camera against another camera's crops alone."""

    query_camera: str
    gallery_camera: str
    mAP: float | None
    rank1: float | None
    valid_queries: int


class ListedOut(_Out):
    """One row of a ranking."""

    name: str | None
    person_id: str
    camera_id: str
    score: float
    right: bool


class WorstOut(_Out):
    """A query that went wrong."""

    name: str | None
    person_id: str
    camera_id: str
    average_precision: float
    first_right: int
    ranking: list[ListedOut]


class ScoresOut(_Out):
    """Histograms, over the valid queries, of the best score of the right person and of the best of any other."""

    edges: list[float]
    right: list[int]
    wrong: list[int]


class GainOut(_Out):
    """Without re-ranking, and with it."""

    queries: int
    mAP: tuple[float, float]
    rank1: tuple[float, float]


class OpenSetOut(_Out):
    """How often a person who is not in the gallery is found, and how probable right matches are; on held-out persons."""

    refused: str | None
    sentences: list[str]
    calibration: dict[str, Any] | None


class AgreementOut(_Out):
    """The share of the exact top-10 that the live store finds; null, with the reason, where there is no live store."""

    share: float | None
    queries: int
    k: int
    reason: str | None = None


class EvaluateAnswer(_Out):
    """Accuracy by named protocol, with what it rests on and where it goes wrong."""

    protocols: dict[str, ProtocolReport]
    omitted: dict[str, str] = Field(description="Protocols that the data do not allow, and why.")
    comparison: ComparisonOut
    data: DataOut
    model: EvaluatedModel
    camera_pairs: list[CameraPairOut]
    worst: list[WorstOut]
    scores: ScoresOut
    reranking: GainOut | None
    open_set: OpenSetOut
    index_agreement: AgreementOut
    timings_ms: dict[str, float]


class EvaluationOut(_Out):
    """An evaluation that is done, without its report: what was asked for (`params`), and when."""

    id: str
    params: Mapping[str, Any]
    created_at: datetime
    ended_at: datetime


class EvaluationPage(_Out):
    """A page of evaluations, the newest first; pass `next_cursor` as `cursor` for the next one."""

    evaluations: list[EvaluationOut]
    next_cursor: str | None
