"""What searches and comparisons take and give, on the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, FiniteFloat, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from app.api.problems import problem_of
from app.api.schemas import ModelName, Problem, _In, _in_utc, _Out
from app.core.decision import Decision
from app.core.fusion import Fusion
from app.core.records import Filter, Match, PersonMatch, PersonScore
from app.core.rerank import MOST
from app.service.galleries import MAX_PAGE
from app.service.person import MAX_CROPS, Refused
from app.service.search import MAX_K, Found, Options
from app.service.verify import Side, Verified

K = Annotated[int, Field(ge=1, le=MAX_K, description="How many matches at most.")]
Score = Annotated[FiniteFloat, Field(ge=-1, le=1, description="Leave out matches below this cosine.")]
Rate = Annotated[float, Field(gt=0, lt=1)]
Word = Annotated[str, Field(max_length=256)]
Words = Annotated[list[Word], Field(max_length=256)]  # in a URL, which ends at 64 KiB
ManyWords = Annotated[list[Word], Field(max_length=1000)]  # in a body
Images = str | Annotated[list[str], Field(min_length=1, max_length=1000)]
Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]


def _pair(text: str) -> str:
    key, colon, _ = text.partition(":")
    if not key or not colon:
        raise PydanticCustomError("attribute", "{text} is not key:value, such as coat:red", {"text": repr(text)})
    return text


class FilterOptions(_In):
    """Which items count; the same names as query parameters and as keys for JSON."""

    persons: Words | None = Field(None, description="Only items of these persons.")
    cameras: Words | None = Field(None, description="Only items of these cameras.")
    attribute: (
        Annotated[list[Annotated[str, Field(max_length=1024), AfterValidator(_pair)]], Field(max_length=16)] | None
    ) = Field(None, description="Only items with this attribute, key:value; repeated, with all of them.")
    captured_from: Instant | None = Field(None, description="Only items captured then or later; RFC 3339.")
    captured_to: Instant | None = Field(None, description="Only items captured before; RFC 3339.")
    exclude: Words | None = Field(None, description="Not the items of these ids.")

    @field_validator("captured_to")
    @classmethod
    def _after_its_beginning(cls, end: datetime | None, given: ValidationInfo) -> datetime | None:
        start: datetime | None = given.data.get("captured_from")
        if start is not None and end is not None and end <= start:
            raise PydanticCustomError("window", "is not later than captured_from, so that no item can lie between")
        return end

    def filter(self) -> Filter:
        """As the store takes it."""
        pairs = (text.partition(":") for text in self.attribute or ())
        return Filter(
            persons=None if self.persons is None else frozenset(self.persons),
            cameras=None if self.cameras is None else frozenset(self.cameras),
            captured_from=self.captured_from,
            captured_to=self.captured_to,
            attributes=frozenset((key, value) for key, _, value in pairs),
            exclude=frozenset(self.exclude or ()),
        )


class PageOptions(FilterOptions):
    """Which page of a collection's items."""

    limit: int = Field(100, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


class SearchOptions(FilterOptions):
    """How to search; the same names as query parameters for pictures and as keys for JSON."""

    k: K = 10
    by: Literal["item", "person"] = Field("item", description="person: each person once, with its best item.")
    person_score: PersonScore = Field(
        "centroid", description="A person's score: that of the mean of its accepted crops, or of the best one."
    )
    fusion: Fusion = Field("mean", description="Several crops: their mean direction, or each item's best score.")
    rerank: bool = Field(False, description=f"k-reciprocal re-ranking of the {MOST} best items. Scores stay cosines.")
    exact: bool = Field(
        False, description="Score every accepted item, also in a large collection; slow there, misses nothing."
    )
    camera_id: str | None = Field(None, min_length=1, description="The query's camera: its items are left out.")
    same_camera: bool = Field(False, description="Do not leave out the query's camera.")
    fpir: Rate | None = Field(None, description="Rate of false matches of the decision; 0.001, 0.01 or 0.05.")
    min_score: Score | None = None

    def options(self) -> Options:
        """As the service takes them."""
        return Options(
            k=self.k,
            by=self.by,
            person_score=self.person_score,
            fusion=self.fusion,
            rerank=self.rerank,
            exact=self.exact,
            camera_id=self.camera_id,
            same_camera=self.same_camera,
            where=self.filter(),
            min_score=self.min_score,
            fpir=self.fpir,
        )


class QueryIn(SearchOptions):
    """A query: an image in base64 or several of one person, or a vector."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image": "/9j/4AAQSkZJRg...", "k": 5, "camera_id": "2"}]}
    )
    persons: ManyWords | None = Field(None, description="Only items of these persons.")
    cameras: ManyWords | None = Field(None, description="Only items of these cameras.")
    exclude: ManyWords | None = Field(None, description="Not the items of these ids.")
    image: Images | None = Field(None, description=f"An encoded image in base64; or 1 to {MAX_CROPS} of one person.")
    vector: list[float] | None = Field(None, max_length=65_536, description="A vector of the model's length.")


class BatchIn(_In):
    """Independent queries."""

    queries: list[QueryIn] = Field(min_length=1, max_length=1000)


class RefusedCrop(_Out):
    """A crop that could not be used, and why; the others were."""

    name: str
    error: Problem

    @classmethod
    def listed(cls, refused: Sequence[Refused], request_id: str) -> list[Self]:
        """The refused crops of one person."""
        return [cls(name=r.name, error=Problem(**problem_of(r.error, request_id))) for r in refused]


class MatchOut(_Out):
    """An item that was found. `rank` counts from 1; `score` is the cosine in [-1, 1]."""

    rank: int
    id: str
    person_id: str | None
    camera_id: str | None
    captured_at: datetime | None
    source: str | None
    score: float
    probability: float | None = None

    @classmethod
    def of(cls, match: Match, rank: int, probability: float | None = None) -> Self:
        """A match with its rank."""
        shown = ("id", "person_id", "camera_id", "captured_at", "source")
        return cls(
            rank=rank, score=match.score, probability=probability, **{name: getattr(match.item, name) for name in shown}
        )


class PersonOut(_Out):
    """A person that was found. `items` of it were accepted by the filters, `best` is the nearest of them."""

    rank: int
    person_id: str
    score: float
    probability: float | None = None
    items: int
    best: MatchOut = Field(description="Its own score; its rank is the person's.")

    @classmethod
    def of(cls, match: PersonMatch, rank: int, probability: float | None = None) -> Self:
        """A person with its rank."""
        best = MatchOut.of(match.best, rank)
        return cls(
            rank=rank,
            person_id=match.person_id,
            score=match.score,
            probability=probability,
            items=match.items,
            best=best,
        )


def matches_of(found: Found) -> list[MatchOut]:
    """The items that were found, with their ranks."""
    told = zip(found.matches, found.judgement.probabilities, strict=True)
    return [MatchOut.of(m, rank, p) for rank, (m, p) in enumerate(told, 1) if isinstance(m, Match)]


def persons_of(found: Found) -> list[PersonOut]:
    """The persons that were found, with their ranks."""
    told = zip(found.matches, found.judgement.probabilities, strict=True)
    return [PersonOut.of(m, rank, p) for rank, (m, p) in enumerate(told, 1) if isinstance(m, PersonMatch)]


class Decided(_Out):
    """What the best match means: match, unsure or unknown; or null, and why. A reason beside a decision is a caveat."""

    decision: Decision | None = None
    decision_reason: str | None = None


class SearchAnswer(Decided):
    """The best items, best first; and the crops that could not be used."""

    matches: list[MatchOut]
    refused: list[RefusedCrop]
    model: ModelName
    timings_ms: dict[str, float]


class PersonsAnswer(Decided):
    """The best persons, best first; and the crops that could not be used. The answer to `by=person`."""

    persons: list[PersonOut]
    refused: list[RefusedCrop]
    model: ModelName
    timings_ms: dict[str, float]


class BatchResult(Decided):
    """The matches of one query (or persons, where it asks for them), or its own error."""

    matches: list[MatchOut] | None = None
    persons: list[PersonOut] | None = None
    refused: list[RefusedCrop] = Field(default_factory=list)
    error: Problem | None = None


class BatchAnswer(_Out):
    """One result per query, in the order sent."""

    results: list[BatchResult]
    model: ModelName
    timings_ms: dict[str, float]


class VerifyOptions(_In):
    """What stands beside the crops; the same names as query parameters for a form and as keys for JSON."""

    collection: str | None = Field(None, max_length=64, description="Whose calibration tells what the score means.")
    item_id: str | None = Field(None, max_length=256, description="An item of it, in the place of `a` or of `b`.")
    fpir: Rate | None = Field(None, description="As for a search: of the pairs of two persons that are called a match.")


class VerifyIn(VerifyOptions):
    """Two crops in base64, or two sets of crops of one person each."""

    a: Images | None = None
    b: Images | None = None


class SideOut(_Out):
    """What was compared of one side: so many crops, or an item."""

    crops: int
    refused: list[RefusedCrop]
    item_id: str | None

    @classmethod
    def of(cls, side: Side, request_id: str) -> Self:
        """One side."""
        return cls(crops=side.crops, refused=RefusedCrop.listed(side.refused, request_id), item_id=side.item_id)


class VerifyAnswer(_Out):
    """The cosine of the two sides, and what it means; null where nobody can tell, and then `decision_reason` says why."""

    score: float
    probability: float | None
    decision: Literal["match", "unsure", "unknown"] | None
    decision_reason: str | None
    a: SideOut
    b: SideOut
    model: ModelName
    timings_ms: dict[str, float]

    @classmethod
    def of(cls, verified: Verified, model: ModelName, timings_ms: dict[str, float], request_id: str) -> Self:
        """An answer in the words of the API."""
        return cls(
            score=verified.score,
            probability=verified.verdict.probability,
            decision=verified.verdict.decision,
            decision_reason=verified.verdict.reason,
            a=SideOut.of(verified.a, request_id),
            b=SideOut.of(verified.b, request_id),
            model=model,
            timings_ms=timings_ms,
        )
