"""What goes over the wire, with an example of each."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from app.core.records import Item, Retention
from app.service.galleries import Described
from app.service.model import LoadedModel


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


Days = Annotated[int, Field(ge=1, le=36_500)]


class RetentionIn(_In):
    """How long items stay, in days from when they came in, by the server's clock; null: for ever."""

    keep_days: Days | None = Field(None, description="Of the whole collection.")
    camera_keep_days: dict[str, Days] = Field(
        default_factory=dict, max_length=1000, description="By camera; goes before `keep_days`."
    )

    def retention(self) -> Retention:
        """As the store keeps it."""
        return Retention(self.keep_days, self.camera_keep_days)


class CollectionIn(RetentionIn):
    """Settings of a collection: `keep_crops` is fixed when it is made, the days can be changed."""

    keep_crops: bool | None = Field(None, description="Keep the 256 x 128 crops themselves. Default: no.")


class CollectionOut(_Out):
    """A collection."""

    name: str
    items: int
    keep_crops: bool
    keep_days: int | None
    camera_keep_days: Mapping[str, int]
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
            keep_days=c.retention.keep_days,
            camera_keep_days=c.retention.cameras,
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


class LineIn(DescriptionIn):
    """A line of an NDJSON stream: a crop or its vector, and what the caller says of it."""

    image: str | None = Field(None, description="The encoded crop in base64.")
    vector: str | list[float] | None = Field(
        None, description="Instead: its raw vector, base64 of little-endian float32, or a list of numbers."
    )
    source: str | None = Field(None, min_length=1, max_length=1024, description="The crop's file name.")


class EntryIn(DescriptionIn):
    """What the caller says of an entry of an archive, or of a crop of an array."""

    name: str | None = Field(
        None, min_length=1, max_length=1024, description="The entry's name; an array's crop needs none."
    )


class ItemOptions(_In):
    """How to index. What is said here holds for crops of which neither a description nor the name says it."""

    pattern: str | None = Field(None, max_length=1000, description="Read labels off file names by this pattern.")
    person_id: str | None = Field(None, min_length=1, max_length=256, description="The person of crops without one.")
    camera_id: str | None = Field(None, min_length=1, max_length=256, description="The camera of crops without one.")
    fingerprint: str | None = Field(
        None, min_length=1, max_length=256, description="NDJSON with vectors: of the model that made them."
    )


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
