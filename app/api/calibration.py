"""Calibrations on the wire."""

from datetime import datetime
from typing import Any

from pydantic import Field

from app.api.schemas import _In, _Out


class CalibrateIn(_In):
    """How to calibrate a collection."""

    fpir: float = Field(
        0.01, description="Rate of false matches that searches keep where they ask for no other: 0.001, 0.01 or 0.05."
    )
    wait: float = Field(30.0, ge=0, le=600, description="Seconds to wait before the answer is a job that goes on.")


class CalibrationOut(_Out):
    """What is known of one kind of score; `refused` says why where nothing is."""

    created_at: datetime
    items: int = Field(description="Of the collection, when it was made.")
    stale: bool = Field(description="Whether the collection has since grown or shrunk by a tenth.")
    fpir: float
    refused: str | None
    sentences: list[str] = Field(description="What it rests on, and how it did on held-out persons.")
    calibration: dict[str, Any] | None = Field(
        description="Borders, probabilities, reliability, calibration error before and after, DET."
    )


class CalibrationsOut(_Out):
    """By kind of score: `item` and `person` searches, and `pair` for 1:1. One that was never made is missing."""

    calibrations: dict[str, CalibrationOut]
