"""Forms as they come in: crops are given on before the form ends, in chunks of any length."""

import io
import json
from collections.abc import AsyncIterator

import numpy as np
import pytest

from app.api.streams.form import Form, read_form
from app.errors import BadField, BadRequest, ReidError, TooLarge
from app.service.incoming import New, NewCrop, NewPixels, Unusable
from tests.streams import chunked, read_all

pytestmark = pytest.mark.anyio
TYPE = 'multipart/form-data; boundary="b-1"'


def part(field: str, data: bytes, file_name: str | None = None) -> bytes:
    file = f'; filename="{file_name}"' if file_name is not None else ""
    return f'--b-1\r\nContent-Disposition: form-data; name="{field}"{file}\r\n\r\n'.encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b-1--\r\n"


async def read(data: bytes, size: int = 65536, most: int | None = None) -> tuple[list[New], ReidError | None]:
    return await read_all(read_form(Form(chunked(data, size), TYPE), 100, most))


def about(news: list[New]) -> list[tuple[str, bytes, str | None]]:
    return [(new.name, new.upload.data, new.description.person_id) for new in news if isinstance(new, NewCrop)]


A, B = part("image", b"one\r\n--b-", "a.jpg"), part("image", b"two", "größe.jpg")
BOTH = part("metadata", b'[{"person_id": "anna"}, {"person_id": "bert"}]')


@pytest.mark.parametrize("size", [1, 2, 7, 65536])
@pytest.mark.parametrize("most", [None, 2])
async def test_crops_come_with_what_is_said_before_them(size: int, most: int | None) -> None:
    found, error = await read(form(BOTH, A, B), size, most)
    assert error is None
    assert about(found) == [("a.jpg", b"one\r\n--b-", "anna"), ("größe.jpg", b"two", "bert")]


async def test_a_form_that_is_held_whole_may_say_it_at_its_end_and_a_stream_may_not() -> None:
    found, error = await read(form(A, B, BOTH), most=2)
    assert error is None
    assert [person for _, _, person in about(found)] == ["anna", "bert"]
    found, error = await read(form(A, B, BOTH))
    assert len(found) == 2
    assert isinstance(error, BadField)
    assert "before the first one" in str(error)


async def test_by_name_each_image_finds_its_own() -> None:
    found, error = await read(form(part("metadata", json.dumps({"größe.jpg": {"person_id": "bert"}}).encode()), A, B))
    assert error is None
    assert [person for _, _, person in about(found)] == [None, "bert"]


async def test_a_crop_is_given_on_before_the_form_ends() -> None:
    sent = []

    async def chunks() -> AsyncIterator[bytes]:
        for piece in (A, B, b"--b-1--\r\n"):
            sent.append(piece)
            yield piece

    crops = read_form(Form(chunks(), TYPE), 100, None)
    first = await anext(crops)
    assert (first.name, len(sent)) == ("a.jpg", 2)  # the boundary behind it is B's beginning


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ((part("metadata", b"[{}]"), A, B), "metadata: 1 entries, and more images"),
        ((part("metadata", b"[{}, {}, {}]"), A, B), "metadata: 3 entries for 2 images"),
        ((part("metadata", b'{"x.jpg": {}}'), A), "metadata: no image is named 'x.jpg'"),
        ((part("metadata", b"{"), A), "metadata: Invalid JSON"),
        ((part("metadata", b"[]", "m.json"), A), "metadata: is a file"),
        ((part("metadata", b"[" + b"{}," * 10_000 + b"{}]"), A), "metadata: List should have at most 10000 items"),
        ((part("image", b"text"),), "image: is text"),
        ((part("picture", b"x", "a.jpg"),), "picture: is no field"),
        ((part("metadata", b"[]"),), "image: the form has no file"),
        ((), "image: the form has no file"),
    ],
)
@pytest.mark.parametrize("most", [None, 5])
async def test_a_field_that_does_not_fit_is_named(parts: tuple[bytes, ...], sentence: str, most: int | None) -> None:
    _, error = await read(form(*parts), most=most)
    assert isinstance(error, BadField)
    assert str(error).startswith(sentence)


async def test_a_crop_that_is_too_large_refuses_itself() -> None:
    found, error = await read(form(part("image", b"x" * 101, "large.jpg"), B), size=20)
    assert error is None
    large, good = found
    assert isinstance(large, Unusable)
    assert isinstance(large.error, TooLarge)
    assert good.name == "größe.jpg"


async def test_more_crops_than_a_request_may_hold_are_refused() -> None:
    _, error = await read(form(A, B), most=1)
    assert isinstance(error, TooLarge)


@pytest.mark.parametrize("cut", range(0, len(form(A, B)) - 4, 7))
async def test_wherever_a_form_is_cut_its_end_is_told(cut: int) -> None:
    found, error = await read(form(A, B)[:cut])
    assert "cut short" in str(error)
    assert about(found) == [("a.jpg", b"one\r\n--b-", None), ("größe.jpg", b"two", None)][: len(found)]


async def test_what_is_no_form_is_refused() -> None:
    with pytest.raises(BadRequest, match="no boundary"):
        Form(chunked(b""), "multipart/form-data")
    for data in (b"hello, this is no form", b"--b-1\r\nX: 1\r\n\r\nabc\r\n--b-1--\r\n"):
        _, error = await read(data)
        assert isinstance(error, BadRequest), data


async def test_an_array_of_crops_comes_with_lines_about_them() -> None:
    crops = np.random.default_rng(1).integers(0, 256, (2, 256, 128, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    np.save(buffer, crops)
    array, lines = part("crops", buffer.getvalue(), "crops.npy"), part("items", b'{"id": "i0"}\n{"id": "i1"}\n')
    for most in (None, 5):
        found, error = await read(form(lines, array), 5000, most)
        assert error is None
        pixels = [new for new in found if isinstance(new, NewPixels)]
        assert [new.description.id for new in pixels] == ["i0", "i1"]
        assert np.array_equal(np.stack([new.pixels for new in pixels]), crops)
    _, error = await read(form(array, lines))
    assert "items: comes after the crops" in str(error)
