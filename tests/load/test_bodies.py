"""What is sent is what it says it is: pictures, forms, streams; and nothing goes to another machine by mistake."""

import io
import tarfile

import numpy as np
import pytest

from app.core.preprocess import decode
from tests.load.bulk import Pieces, array_of, tar_of
from tests.load.calls import calls_of, drawn_jpegs, stamped
from tests.load.run import Target
from tests.load.servers import running_server


async def whole(pieces: Pieces) -> bytes:
    return b"".join([piece async for piece in pieces()])


def test_a_stamped_crop_has_other_bytes_and_the_same_pixels() -> None:
    jpeg = drawn_jpegs()[0]
    one, other = stamped(jpeg, 1, run=7), stamped(jpeg, 2, run=7)
    assert len({jpeg, one, other}) == 3
    assert np.array_equal(decode(one, "stamped"), decode(jpeg, "drawn"))


async def test_the_tar_holds_as_many_different_crops_as_it_should() -> None:
    data = await whole(tar_of(drawn_jpegs()[:2], 5))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        contents = [file.read() for entry in archive if (file := archive.extractfile(entry))]
    assert len(set(contents)) == 5


async def test_the_array_is_one_that_numpy_reads_and_each_of_its_crops_is_another() -> None:
    crops = np.load(io.BytesIO(await whole(array_of(20, at_once=8))), allow_pickle=False)
    assert (crops.dtype, crops.shape) == (np.uint8, (20, 256, 128, 3))
    assert len({crop.tobytes() for crop in crops}) == 20


def test_mixed_requests_are_searches_embeddings_and_new_items_in_that_order_of_number() -> None:
    calls = calls_of("mixed", drawn_jpegs())
    paths = [calls(i).path.rpartition("/")[2].partition("?")[0] for i in range(1000)]
    counts = [paths.count(name) for name in ("search", "embeddings", "items")]
    # 700, 200 and 100 of a thousand, each within five standard deviations (at most 5 * sqrt(1000 * 0.7 * 0.3) = 72).
    assert all(abs(count - expected) < 72 for count, expected in zip(counts, (700, 200, 100), strict=True))
    assert sum(counts) == 1000


def test_what_is_indexed_is_new_however_often_a_number_comes() -> None:
    calls = calls_of("index", drawn_jpegs())
    assert len({calls(number).body for number in (0, 1, 0, 1)}) == 4


def test_a_deadline_goes_along_as_a_header() -> None:
    assert calls_of("embeddings", drawn_jpegs(), deadline_ms=1500)(0).headers["X-Timeout-Ms"] == "1500"
    assert "X-Timeout-Ms" not in calls_of("embeddings", drawn_jpegs())(0).headers


def test_another_machine_is_not_loaded_unless_that_is_meant() -> None:
    with pytest.raises(ValueError, match="not this machine"):
        running_server("http://192.0.2.7:8000", None, remote_too=False)
    assert running_server("http://192.0.2.7:8000", None, remote_too=True).url == "http://192.0.2.7:8000"
    assert running_server("http://127.0.0.1:8000/", 12, remote_too=False) == Target(
        "reid", "http://127.0.0.1:8000", (12,)
    )
