"""Folders and archives into collections, and collections out, on the wire."""

from typing import Self

from pydantic import Field, model_validator

from app.api.schemas import _In

Wait = Field(30.0, ge=0, le=300, description="Seconds to wait for the end; then 202, and the job goes on.")


class ImportIn(_In):
    """A folder of pictures, or an exported collection, below REID_DATA_ROOTS, as the server sees it."""

    folder: str | None = Field(None, min_length=1, max_length=4096)
    archive: str | None = Field(None, min_length=1, max_length=4096, description="What `GET .../export` gave.")
    pattern: str | None = Field(
        None,
        max_length=1000,
        description="How names tell labels; null: label what is recognised, keep the rest unlabelled.",
    )
    recursive: bool = Field(False, description="Also the folders below.")
    wait: float = Wait

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.folder is None) == (self.archive is None):
            raise ValueError("give either a folder of pictures or an archive")
        return self


class ReembedIn(_In):
    """The collection to make of the kept crops with the loaded model."""

    into: str = Field(min_length=1, max_length=64)
    wait: float = Wait
