"""Arrays and lines of JSON as they come in."""

import base64
import io
import json

import numpy as np
import pytest

from app.api.streams.cursor import Cursor
from app.api.streams.lines import read_lines
from app.api.streams.npy import read_npy
from app.errors import BadArchive, BadField
from app.service.incoming import Description, NewCrop, NewPixels, NewVector, Unusable
from tests.streams import chunked, read_all

pytestmark = pytest.mark.anyio
CROPS = np.random.default_rng(1).integers(0, 256, (3, 256, 128, 3), dtype=np.uint8)


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
async def test_crops_of_an_array_come_in_order(version: tuple[int, int]) -> None:
    found, error = await read_all(read_npy(Cursor(chunked(npy(CROPS, version), 1000), "array")))
    assert error is None
    pixels = [new.pixels for new in found if isinstance(new, NewPixels)]
    assert np.array_equal(np.stack(pixels), CROPS)
    assert [new.name for new in found] == ["crops.0", "crops.1", "crops.2"]


async def test_entries_name_and_describe_the_crops_of_an_array() -> None:
    entries = [
        (None, Description(id="i0")),
        ("0005_c2_f1.png", Description(person_id="anna")),
        (None, Description()),
    ]
    found, _ = await read_all(read_npy(Cursor(chunked(npy(CROPS)), "array"), entries))
    about = [(new.name, new.source, new.description.id) for new in found if isinstance(new, NewPixels)]
    assert about == [("crops.0", None, "i0"), ("0005_c2_f1.png", "0005_c2_f1.png", None), ("crops.2", None, None)]
    none, error = await read_all(read_npy(Cursor(chunked(npy(CROPS)), "array"), entries[:2]))
    assert none == []
    assert isinstance(error, BadField)
    assert "2 lines for 3 crops" in str(error)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (CROPS.astype(np.float32), "an array of <f4 (3, 256, 128, 3)"),
        (CROPS[0], "an array of |u1 (256, 128, 3)"),
        (CROPS[:, :128], "an array of |u1 (3, 128, 128, 3)"),
        (np.asfortranarray(CROPS), "in Fortran's order"),
        (np.array([None]), "an array of |O"),
    ],
)
async def test_another_array_is_refused_by_its_header(array: np.ndarray, sentence: str) -> None:
    found, error = await read_all(read_npy(Cursor(chunked(npy(array)), "array")))
    assert found == []
    assert sentence in str(error)


async def test_an_array_that_is_none_cut_short_or_too_long_says_so() -> None:
    data = npy(CROPS)
    for broken, count, sentence in (
        (b"not an array", 0, "does not begin as one"),
        (data[:8] + b"\xff\xff" + bytes(70000), 0, "a header of 65535 bytes"),
        (data[:10] + b"{'shape': (" + data[21:], 0, "a broken header"),
        (data[:10] + b"[" * 118 + data[128:], 0, "a broken header"),
        (data.replace(b"(3, 256", b"(-3,256"), 0, "an array of |u1 (-3, 256"),
        (data[:100], 0, "cut short"),
        (data[:-5], 2, "cut short"),
        (data + b"x", 3, "goes on behind its 3 crops"),
    ):
        found, error = await read_all(read_npy(Cursor(chunked(broken), "array")))
        assert (len(found), isinstance(error, BadArchive)) == (count, True), sentence
        assert sentence in str(error)


async def test_lines_hold_a_crop_or_a_vector_and_a_bad_one_refuses_itself() -> None:
    vector = np.array([1, 2], dtype="<f4")
    rows: list[object] = [
        {"image": base64.b64encode(b"jpeg").decode(), "source": "a.jpg", "person_id": "anna"},
        {"vector": base64.b64encode(vector.tobytes()).decode(), "id": "v"},
        {"vector": [1, 2]},
        {"image": "%%%"},
        {"image": "AAAA", "vector": [1]},
        {},
        [],
        {"image": "AAAA", "camera": "2"},
        {"image": "A" * 3000, "source": "large.jpg"},
        {"image": "AAAA"},
    ]
    data = "\n".join(json.dumps(row) for row in rows).replace("[]", "[]\n\n{") + "\n"
    found, error = await read_all(read_lines(Cursor(chunked(data.encode(), 100), "stream"), 2000))
    assert error is None
    told = [(new.name, str(new.error)) for new in found if isinstance(new, Unusable)]
    crop, packed, listed, last = (new for new in found if not isinstance(new, Unusable))
    assert isinstance(crop, NewCrop)
    assert (crop.name, crop.upload.data, crop.description.person_id) == ("a.jpg", b"jpeg", "anna")
    assert isinstance(packed, NewVector)
    assert isinstance(listed, NewVector)
    assert np.array_equal(packed.vector, vector)  # type: ignore[arg-type]  # it was read
    assert np.array_equal(listed.vector, vector)  # type: ignore[arg-type]  # as above
    assert (packed.name, packed.description.id, last.name) == ("line 2", "v", "line 12")  # an empty line is counted
    assert [name for name, _ in told] == ["line 4", "line 5", "line 6", "line 7", "line 9", "line 10", "line 11"]
    sentences = [sentence.removeprefix(f"{name}: ") for name, sentence in told]
    starts = ["`image` is not base64", "a line has either", "a line has either", "Input should be", "not JSON", "camera: ",
              "more than 2000 bytes"]  # fmt: skip
    assert all(sentence.startswith(start) for sentence, start in zip(sentences, starts, strict=True)), sentences
