"""Image bytes to the crop the network sees: uint8 [256, 128, 3], RGB, and its normalised float form.

Exactly as the reference does it: Pillow decodes and converts to RGB (EXIF orientation not applied, alpha dropped),
then resizes to a forced 256 x 128 with its bilinear filter, which widens its support when it shrinks. The format is told
by content, never by name, and nothing is decoded before its size is known to be sane.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.errors import BadImage, TooLarge

Crop = npt.NDArray[np.uint8]  # [256, 128, 3]
HEIGHT, WIDTH = 256, 128
MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB; the checkpoint was trained with it
STD = (0.229, 0.224, 0.225)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")  # what these formats hold at 8 bits a channel or fewer


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before it is decoded."""

    max_bytes: int = 10 * 2**20
    max_pixels: int = 25_000_000
    min_side: int = 16


def decode(data: bytes, name: str, limits: Limits = Limits()) -> Crop:
    """Turn an encoded image into a crop uint8 [256, 128, 3].

    Raises BadImage with `name` in its sentence for anything that is not a whole 8-bit JPEG, PNG, WebP or BMP of a sane
    size, and TooLarge for more bytes than allowed. Of an animation the first frame counts.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge(f"{name}: {len(data)} bytes; a crop may have {limits.max_bytes}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check(image, data, name, limits)
            resized = image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError) as error:
        if not data:
            raise BadImage(f"{name}: the file is empty") from error
        raise BadImage(f"{name}: not a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
    return np.asarray(resized)


def normalise(
    crops: npt.NDArray[np.uint8] | Sequence[Crop], out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """n crops uint8 [256, 128, 3] to float32 [n, 3, 256, 128], C-contiguous.

    Bit-equal to ((u8 / 255) - mean) / std in float32. out: an array to write to instead of a new one.
    """
    height, width = crops[0].shape[:2] if len(crops) else (HEIGHT, WIDTH)
    planes = np.empty((len(crops), 3, height, width), dtype=np.float32) if out is None else out
    for crop, plane in zip(crops, planes, strict=True):
        for channel in range(3):
            np.take(_TABLE[channel], crop[..., channel], out=plane[channel], mode="clip")  # "raise" copies
    return planes


def _check(image: Image.Image, data: bytes, name: str, limits: Limits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise BadImage(f"{name}: {width} x {height} pixels; a crop may have {limits.max_pixels / 1e6:g} megapixels")
    if min(width, height) < limits.min_side:
        raise BadImage(
            f"{name}: {width} x {height} pixels; a crop needs at least {limits.min_side} x {limits.min_side}"
        )
    if image.mode not in MODES or _is_deep_png(data):
        raise BadImage(f"{name}: more than 8 bits a channel ({image.mode}); save it with 8")


def _is_deep_png(data: bytes) -> bool:
    """Pillow opens a 16-bit colour PNG as 8-bit RGB; its header, which comes first, still tells the depth (byte 24)."""
    return data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10"


def _table() -> npt.NDArray[np.float32]:
    """All 256 values per channel: a look-up is four times as fast as the arithmetic, and equal to the last bit."""
    values = np.arange(256, dtype=np.uint8).astype(np.float32) / np.float32(255)
    mean, std = np.array(MEAN, dtype=np.float32), np.array(STD, dtype=np.float32)
    return ((values[None, :] - mean[:, None]) / std[:, None]).astype(np.float32)


_TABLE = _table()
