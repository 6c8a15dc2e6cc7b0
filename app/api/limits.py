"""How much one request may carry, from the settings; each route states its own."""

from dataclasses import dataclass

_BASE64 = 1.4  # base64 over bytes, with line ends; a form adds less
_SLACK = 64 * 1024
SMALL_BODY = 64 * 1024  # of a request that carries no picture


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Crops a request, and bytes a crop."""

    crops: int = 64
    streamed_crops: int = 1000
    crop_bytes: int = 10 * 2**20

    def body(self, crops: int) -> int:
        """Bytes of a body with so many crops, as a form or in base64."""
        return int(crops * self.crop_bytes * _BASE64) + _SLACK
