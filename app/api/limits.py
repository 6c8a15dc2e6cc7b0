"""How much one request may carry, from the settings; each route states its own."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Header

_BASE64 = 1.4  # base64 over bytes, with line ends; a form adds less
_SLACK = 64 * 1024
SMALL_BODY = 64 * 1024  # of a request that carries no picture
TimeoutMs = Annotated[
    int | None,
    Header(
        alias="X-Timeout-Ms",
        ge=1,
        le=600_000,
        description="Milliseconds that the answer may take once the request has been read; later it is 504.",
    ),
]


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Crops a request, bytes a crop, and seconds an answer.

    silence_s: how long a client whose stream is read may send, or read, nothing.
    """

    crops: int = 64
    streamed_crops: int = 1000  # vectors in JSON, which is read whole
    crop_bytes: int = 10 * 2**20
    stream_entries: int = 1_000_000  # of a stream, which has no limit in bytes
    silence_s: float = 60.0
    timeout_s: float = 10.0  # of an answer that somebody waits for, where the request says nothing

    def answer_s(self, timeout_ms: int | None) -> float:
        """Seconds that an answer may take, by what the request says."""
        return self.timeout_s if timeout_ms is None else timeout_ms / 1000

    def body(self, crops: int) -> int:
        """Bytes of a body with so many crops, as a form or in base64."""
        return int(crops * self.crop_bytes * _BASE64) + _SLACK
