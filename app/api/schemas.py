"""What goes over the wire, with an example of each."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat

from app.core.metrics import Report
from app.core.records import Item, Match
from app.service.galleries import Described
from app.service.search import MAX_K, Options
from app.service.service import LoadedModel

K = Annotated[int, Field(ge=1, le=MAX_K, description="How many matches at most.")]
Score = Annotated[FiniteFloat, Field(ge=-1, le=1, description="Leave out matches below this cosine.")]
Words = Annotated[list[str], Field(max_length=1000)]


def _in_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("before the year 1 or after 9999 in UTC") from error


class _In(BaseModel):
    """A body; an unknown key is a mistake of the caller's and is named."""

    model_config = ConfigDict(extra="forbid")


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class Problem(_Out):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    field: str | None = None
    errors: list[dict[str, str]] | None = None


class ModelName(_Out):
    """Which model made the vectors."""

    fingerprint: str
    label: str

    @classmethod
    def of(cls, model: LoadedModel) -> Self:
        """The loaded model's name."""
        return cls(fingerprint=model.fingerprint, label=model.label)


class EvaluatedModel(ModelName):
    """Which model was evaluated, and how it ran."""

    variant: str
    batch_size: int | None = Field(description="The only one that it ran; null where it took the one that fits.")

    @classmethod
    def of(cls, model: LoadedModel) -> Self:
        """The loaded model."""
        return cls(fingerprint=model.fingerprint, label=model.label, variant=model.variant, batch_size=model.batch_size)


class CollectionIn(_In):
    """Settings of a collection, fixed when it is made."""

    keep_crops: bool | None = Field(None, description="Keep the 256 x 128 crops themselves. Default: no.")


class CollectionOut(_Out):
    """A collection."""

    name: str
    items: int
    keep_crops: bool
    fingerprint: str
    dim: int
    created_at: datetime

    @classmethod
    def of(cls, described: Described) -> Self:
        """A collection as the service describes it."""
        c = described.collection
        return cls(
            name=c.name,
            items=described.items,
            keep_crops=c.keep_crops,
            fingerprint=c.fingerprint,
            dim=c.dim,
            created_at=c.created_at,
        )


class Collections(_Out):
    """All collections."""

    collections: list[CollectionOut]


class ItemOut(_Out):
    """A crop's entry in a collection."""

    id: str
    person_id: str | None
    camera_id: str | None
    captured_at: datetime | None
    source: str | None
    sha256: str
    attributes: Mapping[str, str]

    @classmethod
    def of(cls, item: Item) -> Self:
        """An item as stored."""
        return cls(**{name: getattr(item, name) for name in cls.model_fields})


class ItemPage(_Out):
    """A page of items, in the order added; pass `next_cursor` as `cursor` for the next one."""

    items: list[ItemOut]
    next_cursor: str | None


class DescriptionIn(_In):
    """What the caller says of one crop."""

    id: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        pattern=r"^[^/.\x00-\x1f][^/\x00-\x1f]*$",  # it stands in paths, where "." and ".." are no names
        description="Your own id. Default: the content's sha256.",
    )
    person_id: str | None = Field(None, min_length=1, max_length=256)
    camera_id: str | None = Field(None, min_length=1, max_length=256)
    captured_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = Field(None, description="RFC 3339.")
    attributes: dict[str, str] = Field(default_factory=dict, max_length=64)


class VectorIn(DescriptionIn):
    """What the caller says of one crop, and its vector. The crop itself is not sent, and none is kept."""

    vector: str | list[float] = Field(
        description="Raw, as the model gives it: base64 of little-endian float32, or a list of numbers."
    )
    source: str | None = Field(None, min_length=1, max_length=1024, description="The crop's file name.")


class VectorsIn(_In):
    """Vectors that the loaded model made elsewhere."""

    fingerprint: str = Field(min_length=1, max_length=256, description="Of the model that made them, as GET /v1/model.")
    items: list[VectorIn] = Field(min_length=1, max_length=1000)


class ItemOptions(_In):
    """How to index."""

    pattern: str | None = Field(None, max_length=1000, description="Read labels off file names by this pattern.")


class IngestResult(_Out):
    """What became of one crop."""

    name: str
    id: str | None
    status: Literal["added", "unchanged", "updated", "refused"]
    error: Problem | None = None


class IngestAnswer(_Out):
    """One result per crop, in the order sent."""

    results: list[IngestResult]
    model: ModelName
    timings_ms: dict[str, float]


class MatchOut(_Out):
    """An item that was found. `rank` counts from 1; `score` is the cosine in [-1, 1]."""

    rank: int
    id: str
    person_id: str | None
    camera_id: str | None
    captured_at: datetime | None
    source: str | None
    score: float

    @classmethod
    def listed(cls, matches: list[Match]) -> list[Self]:
        """Matches with their ranks."""
        return [
            cls(
                rank=rank,
                id=m.item.id,
                person_id=m.item.person_id,
                camera_id=m.item.camera_id,
                captured_at=m.item.captured_at,
                source=m.item.source,
                score=m.score,
            )
            for rank, m in enumerate(matches, 1)
        ]


class SearchAnswer(_Out):
    """The best items, best first."""

    matches: list[MatchOut]
    model: ModelName
    timings_ms: dict[str, float]


class SearchOptions(_In):
    """How to search; the same names as query parameters for pictures and as keys for JSON."""

    k: K = 10
    camera_id: str | None = Field(None, min_length=1, description="The query's camera: its items are left out.")
    same_camera: bool = Field(False, description="Do not leave out the query's camera.")
    persons: Words | None = Field(None, description="Only items of these persons.")
    cameras: Words | None = Field(None, description="Only items of these cameras.")
    min_score: Score | None = None

    def options(self) -> Options:
        """As the service takes them."""
        return Options(
            k=self.k,
            camera_id=self.camera_id,
            same_camera=self.same_camera,
            persons=None if self.persons is None else frozenset(self.persons),
            cameras=None if self.cameras is None else frozenset(self.cameras),
            min_score=self.min_score,
        )


class QueryIn(SearchOptions):
    """A query: an image in base64, or a vector."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": "/9j/4AAQSkZJRg...", "k": 5, "camera_id": "2"}]}
    )
    image: str | None = Field(None, description="An encoded image in base64.")
    vector: list[float] | None = Field(None, max_length=65_536, description="A vector of the model's length.")


class BatchIn(_In):
    """Independent queries."""

    queries: list[QueryIn] = Field(min_length=1, max_length=1000)


class BatchResult(_Out):
    """The matches of one query, or its own error."""

    matches: list[MatchOut] | None = None
    error: Problem | None = None


class BatchAnswer(_Out):
    """One result per query, in the order sent."""

    results: list[BatchResult]
    model: ModelName
    timings_ms: dict[str, float]


class ImagesIn(_In):
    """One image in base64, or several."""

    image: str | Annotated[list[str], Field(min_length=1, max_length=1000)]

    def all(self) -> list[str]:
        """The images as a list."""
        return [self.image] if isinstance(self.image, str) else self.image


class EmbeddingsAnswer(_Out):
    """Unit vectors and raw norms; with `Accept: application/vnd.reid.base64+json` each is base64 of little-endian float32."""

    vectors: list[list[float]] | str
    norms: list[float] | str
    dim: int
    model: ModelName
    timings_ms: dict[str, float]


class EvaluateIn(_In):
    """A folder with `query/` and `bounding_box_test/` below one of REID_DATA_ROOTS."""

    folder: str = Field(min_length=1, max_length=4096)
    pattern: str = Field(
        "auto", max_length=1000, description="auto, duke, market1501, msmt17, or a regular expression."
    )


class ProtocolReport(_Out):
    """Fractions 0..1, null where no query was valid."""

    mAP: float | None
    rank1: float | None
    rank5: float | None
    rank10: float | None
    rank20: float | None
    rank50: float | None
    valid_queries: int
    queries: int
    gallery: int

    @classmethod
    def of(cls, report: Report) -> Self:
        """A report in the words of the API."""
        return cls(
            mAP=report.mAP,
            rank1=report.ranks[1],
            rank5=report.ranks[5],
            rank10=report.ranks[10],
            rank20=report.ranks[20],
            rank50=report.ranks[50],
            valid_queries=report.valid_queries,
            queries=report.queries,
            gallery=report.gallery,
        )


class SplitCounts(_Out):
    """What of a folder was used."""

    used: int
    junk: int
    skipped: int
    refused: list[str]


class EvaluateAnswer(_Out):
    """Accuracy by named protocol."""

    protocols: dict[str, ProtocolReport]
    data: dict[str, Any]
    model: EvaluatedModel
    timings_ms: dict[str, float]
