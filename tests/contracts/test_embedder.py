"""What every embedder promises; which ones there are stands in conftest.py."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from app.adapters.memory import MemoryEmbedder
from app.core.preprocess import HEIGHT, WIDTH
from app.ports import Embedder, batches


def noise(count: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    wide, other = a.astype(np.float64), b.astype(np.float64)
    return np.asarray((wide * other).sum(axis=1) / np.linalg.norm(wide, axis=1) / np.linalg.norm(other, axis=1))


def test_a_vector_is_float32_of_the_stated_length_finite_and_not_zero(embedder: Embedder) -> None:
    crops = np.concatenate([noise(1), np.zeros_like(noise(1)), np.full_like(noise(1), 255)])
    vectors = embedder.embed(crops)
    assert (vectors.shape, str(vectors.dtype)) == ((3, embedder.dim), "float32")
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors, axis=1).all()


def test_batch_sizes_ascend_and_every_size_up_to_the_last_is_accepted(embedder: Embedder) -> None:
    sizes = embedder.batch_sizes
    assert sizes
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] >= 1
    for size in range(1, sizes[-1] + 1):
        assert embedder.embed(noise(size)).shape == (size, embedder.dim)


def test_a_row_is_what_its_crop_alone_gives_and_in_order(embedder: Embedder, rounding: float) -> None:
    crops = noise(embedder.batch_sizes[-1])
    alone = np.concatenate([embedder.embed(crop[None]) for crop in crops])
    # Lengths too: centroids are means of raw vectors. Absolute, since a number near zero is a difference of large ones.
    near = rounding * float(np.abs(alone).max())
    np.testing.assert_allclose(embedder.embed(crops), alone, rtol=rounding, atol=near)
    np.testing.assert_allclose(embedder.embed(crops[::-1].copy()), alone[::-1], rtol=rounding, atol=near)


def test_crops_that_lie_apart_give_what_they_give_as_one_array(embedder: Embedder) -> None:
    crops = noise(embedder.batch_sizes[-1])
    assert np.array_equal(embedder.embed(list(crops)), embedder.embed(crops))


def test_the_same_crops_give_the_same_bits_and_are_left_as_they_were(embedder: Embedder) -> None:
    crops = noise(3)
    before = crops.copy()
    first = embedder.embed(crops)
    kept = first.copy()
    assert np.array_equal(embedder.embed(crops), kept)
    embedder.embed(noise(2))
    assert np.array_equal(first, kept)  # an answer is not a buffer that the next call writes over
    assert np.array_equal(crops, before)


def test_different_crops_give_different_vectors(embedder: Embedder) -> None:
    dark, light = np.full((2, 1, HEIGHT, WIDTH, 3), [[[[[20]]]], [[[[230]]]]], dtype=np.uint8)
    assert not np.array_equal(embedder.embed(dark), embedder.embed(light))


def test_any_number_of_crops_goes_through_in_pieces(embedder: Embedder, rounding: float) -> None:
    crops = noise(embedder.batch_sizes[-1] + 3)
    pieces = list(batches(embedder, crops))
    assert [len(piece) for piece in pieces] == [embedder.batch_sizes[-1], 3]
    assert cosines(np.concatenate(pieces)[-1:], embedder.embed(crops[-1:])).min() > 1 - rounding / 10


def test_two_embedders_of_one_fingerprint_agree(open_embedder: Callable[[], Embedder], embedder: Embedder) -> None:
    other = open_embedder()
    assert embedder.fingerprint
    assert other.fingerprint == embedder.fingerprint
    assert cosines(other.embed(noise(2)), embedder.embed(noise(2))).min() > 0.999999
    other.close()


def test_the_memory_embedder_can_be_worked_out_by_hand() -> None:
    crop = np.zeros((1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    crop[:, :64] = (255, 0, 51)  # the uppermost band; 51 / 255 = 0.2
    crop[:, 64:128, :64] = (0, 255, 0)  # half of the second
    expected = [[1, 0, 0.2, 0, 0.5, 0, 0, 0, 0, 0, 0, 0, 1]]
    assert np.array_equal(MemoryEmbedder().embed(crop), np.array(expected, dtype=np.float32))


def test_the_memory_embedder_gives_a_row_of_a_batch_the_bits_of_its_crop_alone() -> None:
    embedder, crops = MemoryEmbedder(), noise(8)
    alone = np.concatenate([embedder.embed(crop[None]) for crop in crops])
    assert np.array_equal(embedder.embed(crops), alone)
