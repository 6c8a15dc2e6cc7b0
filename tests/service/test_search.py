"""What a search hands on to the store."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from app.adapters.memory import MemoryStore
from app.core.calibrated import By
from app.core.records import Collection, Filter, Match, PersonMatch, PersonScore
from app.ports import Floats
from app.service.embed import Embedding
from app.service.galleries import Galleries
from app.service.judgement import Judgement
from app.service.search import Options, Query, Search
from app.service.stages import Stages

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


class Asked(MemoryStore):
    """Remembers how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.exact: list[bool] = []

    def shortlist(
        self, name: str, crops: Floats, k: int, where: Filter, exact: bool = False
    ) -> tuple[list[Match], Floats]:
        self.exact.append(exact)
        return super().shortlist(name, crops, k, where, exact)

    def search_persons(
        self, name: str, crops: Floats, k: int, where: Filter, score: PersonScore = "centroid", exact: bool = False
    ) -> list[PersonMatch]:
        self.exact.append(exact)
        return super().search_persons(name, crops, k, where, score, exact)


async def no_judge(name: str, by: By, scores: Sequence[float], fpir: float | None = None) -> Judgement:
    return Judgement((None,) * len(scores), None, "nobody knows")


@pytest.mark.parametrize("by", ["item", "person"])
@pytest.mark.parametrize("rerank", [False, True])
@pytest.mark.parametrize("exact", [False, True])
async def test_who_asks_for_an_exact_search_gets_one(by: By, rerank: bool, exact: bool) -> None:
    store = Asked()
    store.put_collection(Collection("lobby", "print-1", 2, False, NOON))
    embedding = cast(Embedding, None)  # a vector is asked with: nothing is embedded
    search = Search(embedding, Galleries(store, "print-1", 2, lambda: NOON), store, no_judge)
    await search.one("lobby", Query(Options(by=by, rerank=rerank, exact=exact), vector=(1, 0)), Stages())
    assert set(store.exact) == {exact}
    assert len(store.exact) == (2 if (by, rerank) == ("person", True) else 1)
