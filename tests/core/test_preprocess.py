"""Bytes to crops: exactly the reference's way, and nothing else."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.core.preprocess import MEAN, STD, Limits, decode, normalise
from app.errors import BadImage, TooLarge

RNG = np.random.default_rng(1)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width: int = 60, height: int = 150) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_picture_is_forced_to_256_x_128_by_pillows_bilinear_filter() -> None:
    picture = photo(300, 700)
    expected = np.asarray(picture.resize((128, 256), Image.Resampling.BILINEAR))
    assert np.array_equal(decode(encode(picture), "a.png"), expected)


def test_shrinking_averages_over_all_pixels_it_covers() -> None:
    # One-pixel black and white columns, shrunk eight times: Pillow widens its filter to grey, plain bilinear picks either.
    columns = np.zeros((256, 1024, 3), dtype=np.uint8)
    columns[:, ::2] = 255
    crop = decode(encode(Image.fromarray(columns)), "a.png")
    assert np.abs(crop[:, 2:-2].astype(int) - 127).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_the_format_is_told_by_content_not_by_name(kind: str) -> None:
    assert decode(encode(photo(), kind), "notes.txt").shape == (256, 128, 3)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(BadImage, match=r"x\.jpg"):
        decode(encode(photo(), kind), "x.jpg")


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA"])
def test_grey_palette_and_alpha_become_what_pillows_convert_says(mode: str) -> None:
    picture = photo().convert(mode)
    expected = np.asarray(picture.convert("RGB").resize((128, 256), Image.Resampling.BILINEAR))
    assert np.array_equal(decode(encode(picture), "a.png"), expected)


def test_alpha_is_dropped_not_blended() -> None:
    clear_red = Image.new("RGBA", (40, 80), (255, 0, 0, 0))
    assert (decode(encode(clear_red), "a.png") == (255, 0, 0)).all()


def test_cmyk_is_converted() -> None:
    cyan = Image.new("CMYK", (40, 80), (255, 0, 0, 0))
    data = encode(cyan, "JPEG", quality=100)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == "CMYK"
    red, green, blue = decode(data, "a.jpg")[128, 64].tolist()
    assert red < 30
    assert green > 225
    assert blue > 225


def test_exif_orientation_is_not_applied() -> None:
    left_red = Image.new("RGB", (60, 60))
    left_red.paste((255, 0, 0), (0, 0, 30, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    crop = decode(encode(left_red, "JPEG", exif=exif, quality=95), "a.jpg")
    assert crop[128, 10, 0] > 200
    assert crop[128, 118, 0] < 60


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (40, 80), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decode(data, "a.webp")[100, 60].tolist() == [255, 0, 0]


def png_of_depth(bits: int, colour_type: int, channels: int) -> bytes:
    """A PNG written by hand: Pillow cannot write 16-bit colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(20 * channels * bits // 8)) * 20
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_a_channel_are_refused(colour_type: int, channels: int) -> None:
    assert decode(png_of_depth(8, colour_type, channels), "a.png").shape == (256, 128, 3)
    with pytest.raises(BadImage, match="8 bits"):
        decode(png_of_depth(16, colour_type, channels), "a.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused_by_name(kind: str, share: float) -> None:
    data = encode(photo(), kind)
    with pytest.raises(BadImage, match=r"cut\.jpg: not a whole"):
        decode(data[: int(len(data) * share)], "cut.jpg")


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff", bytes(5000)])
def test_what_is_no_picture_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"x\.jpg"):
        decode(data, "x.jpg")


@pytest.mark.parametrize("size", [(15, 200), (200, 15), (3, 900)])
def test_below_16_x_16_is_refused_with_its_size(size: tuple[int, int]) -> None:
    with pytest.raises(BadImage, match=f"{size[0]} x {size[1]} pixels"):
        decode(encode(photo(*size)), "x.png")
    assert decode(encode(photo(16, 16)), "x.png").shape == (256, 128, 3)


def test_too_many_bytes_are_refused_before_decoding() -> None:
    with pytest.raises(TooLarge, match="1001 bytes"):
        decode(bytes(1001), "x.jpg", Limits(max_bytes=1000))


def test_too_many_pixels_are_refused_before_decoding() -> None:
    header_only = encode(Image.new("RGB", (6000, 5000)))[:100]  # decoding it would fail with another sentence
    with pytest.raises(BadImage, match="25 megapixels"):
        decode(header_only, "x.png")


def test_a_decompression_bomb_is_refused() -> None:
    bomb = bytearray(png_of_depth(8, 2, 3))
    bomb[16:24] = struct.pack(">II", 100_000, 100_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    with pytest.raises(BadImage):
        decode(bytes(bomb), "bomb.png")


def test_the_float_form_is_bit_equal_to_the_arithmetic() -> None:
    crops = RNG.integers(0, 256, (3, 256, 128, 3), dtype=np.uint8)
    mean, std = np.array(MEAN, dtype=np.float32), np.array(STD, dtype=np.float32)
    expected = ((crops.astype(np.float32) / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    made = normalise(crops)
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    assert np.array_equal(made, expected)
