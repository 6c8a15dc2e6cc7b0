"""The crops of one person on their way to vectors: a bad one among several is reported, and spoils nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import BadImage, ReidError
from app.ports import Crop, Floats
from app.service.embed import Embedded, Embedding, Upload
from app.service.stages import Stages

MAX_CROPS = 16


@dataclass(frozen=True, slots=True)
class Refused:
    """A crop that cannot be used, and why."""

    name: str
    error: ReidError


@dataclass(frozen=True, slots=True)
class Person:
    """Unit vectors float32 [n, dim] of the crops that can be used, at least one, and the others."""

    vectors: Floats
    refused: tuple[Refused, ...] = ()


async def embed_person(embedding: Embedding, uploads: Sequence[Upload], stages: Stages) -> Person:
    """Embed 1 to MAX_CROPS crops of one person. Raises BadImage where none can be used, a single one's own refusal."""
    with stages.measure("decode"):  # side by side, so that their times do not add up
        outcomes = await asyncio.gather(*(_decoded(embedding, upload) for upload in uploads))
    refused = tuple(outcome for outcome in outcomes if isinstance(outcome, Refused))
    crops = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
    if not crops:
        raise refused[0].error if len(refused) == 1 else _none_usable(refused)
    return Person(Embedded.of(await embedding.vectors(crops, stages)).vectors, refused)


async def _decoded(embedding: Embedding, upload: Upload) -> Crop | Refused:
    try:
        return await embedding.decode(upload, Stages())
    except ReidError as error:
        return Refused(upload.name, error)


def _none_usable(refused: Sequence[Refused]) -> BadImage:
    return BadImage(f"{refused[0].error}; none of the {len(refused)} crops of this person can be used")
