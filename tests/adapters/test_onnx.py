import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from app.adapters.model_directory import Golden, ModelDirectory
from app.adapters.onnx import BATCH_SIZES, OnnxEmbedder, Sessions
from app.core.preprocess import MEAN, STD
from app.errors import BadModelDirectory, DeviceFailed

DIM = 128  # of the tiny model


@pytest.fixture
def embedder(tiny_model_directory: Path) -> Iterator[OnnxEmbedder]:
    opened = OnnxEmbedder(tiny_model_directory / "model.onnx", "onnx-fp32-tiny", DIM, threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def golden(tiny_model_directory: Path) -> Golden:
    return ModelDirectory.open(tiny_model_directory).golden()


def single_threaded() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return options


def test_the_golden_crops_give_torchs_vectors(embedder: OnnxEmbedder, golden: Golden) -> None:
    vectors = embedder.embed(golden.crops)
    assert (vectors.shape, str(vectors.dtype)) == ((8, DIM), "float32")
    assert np.abs(vectors - golden.vectors).max() <= 1e-5 * np.abs(golden.vectors).max()


@pytest.mark.parametrize("count", [1, 2, 3, 8, 19])
def test_a_row_of_a_batch_is_the_row_of_its_crop_alone(count: int, embedder: OnnxEmbedder, golden: Golden) -> None:
    crops = np.resize(golden.crops, (count, *golden.crops.shape[1:]))
    alone = np.concatenate([embedder.embed(crop[None]) for crop in crops])
    assert np.abs(embedder.embed(crops) - alone).max() <= 1e-5 * np.abs(alone).max()


def test_vectors_come_in_the_order_of_the_crops(embedder: OnnxEmbedder, golden: Golden) -> None:
    order = [5, 0, 7, 3]
    vectors = embedder.embed(golden.crops[order])
    nearest = [int(np.abs(golden.vectors - vector).sum(axis=1).argmin()) for vector in vectors]
    assert nearest == order


def test_what_reaches_the_graph_is_the_normalisation_to_the_last_bit(
    embedder: OnnxEmbedder, tiny_model_directory: Path, golden: Golden
) -> None:
    session = ort.InferenceSession(tiny_model_directory / "model.onnx", single_threaded())
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    for crops in (golden.crops, golden.crops[:3], golden.crops[3:4]):  # the buffer is used again for fewer
        planes = (crops.astype(np.float32) / np.float32(255) - mean) / std
        (expected,) = session.run(None, {"input": np.ascontiguousarray(planes.transpose(0, 3, 1, 2))})
        assert np.array_equal(embedder.embed(list(crops)), expected)


def test_vectors_of_an_earlier_batch_stay_as_they_are(embedder: OnnxEmbedder, golden: Golden) -> None:
    first = embedder.embed(golden.crops[:2])
    kept = first.copy()
    embedder.embed(golden.crops[2:4])
    assert np.array_equal(first, kept)


def test_the_session_has_the_threads_it_was_given_and_none_spins_for_long(embedder: OnnxEmbedder) -> None:
    with embedder._sessions.one() as session:
        options = session.get_session_options()  # what the library says it runs with, not what we asked for
    assert options.intra_op_num_threads == 1
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL  # no threads across operators
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "20"


def test_the_embedder_says_what_it_is(embedder: OnnxEmbedder) -> None:
    assert (embedder.fingerprint, embedder.dim, embedder.batch_sizes) == ("onnx-fp32-tiny", DIM, BATCH_SIZES)
    assert list(BATCH_SIZES) == sorted(BATCH_SIZES)


def test_crops_of_another_size_are_a_failure_of_the_device_in_one_line(embedder: OnnxEmbedder) -> None:
    with pytest.raises(DeviceFailed) as refusal:
        embedder.embed(np.zeros((1, 64, 32, 3), dtype=np.uint8))
    assert str(refusal.value).startswith("ONNX Runtime: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x06\x12\x07pytorch"], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_graph_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "wrong.onnx").write_bytes(content)
    with pytest.raises(BadModelDirectory) as refusal:
        OnnxEmbedder(tmp_path / "wrong.onnx", "f", DIM)
    assert str(refusal.value).startswith("wrong.onnx cannot be loaded: ")
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadModelDirectory, match=r"^nowhere\.onnx cannot be loaded: "):
        OnnxEmbedder(tmp_path / "nowhere.onnx", "f", DIM)


def test_a_graph_of_another_dimension_is_refused_before_it_is_used(tiny_model_directory: Path) -> None:
    with pytest.raises(BadModelDirectory) as refusal:
        OnnxEmbedder(tiny_model_directory / "model.onnx", "f", 2048)
    assert str(refusal.value) == (
        "model.onnx maps [('tensor(float)', [3, 256, 128])] to [('tensor(float)', [128])]; "
        "float32 [b, 3, 256, 128] to [b, 2048] is needed"
    )


def test_a_graph_for_crops_of_another_size_is_refused(tiny_model_directory: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_model_directory / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 128  # a network of convolutions takes any size
    onnx.save(model, tmp_path / "flat.onnx")
    with pytest.raises(BadModelDirectory, match=r"^flat\.onnx maps \[\('tensor\(float\)', \[3, 128, 128\]\)\]"):
        OnnxEmbedder(tmp_path / "flat.onnx", "f", DIM)


EMBED = """
import sys
sys.path[:] = {path!r}
from pathlib import Path
import numpy as np
from app.adapters.onnx import OnnxEmbedder
embedder = OnnxEmbedder(Path({model!r}), "f", 128, 1)
embedder.embed(np.zeros((1, 256, 128, 3), np.uint8))
embedder.close()
"""


def test_nothing_is_left_in_the_home_folder_for_anybody_to_report(tiny_model_directory: Path, tmp_path: Path) -> None:
    script = EMBED.format(path=sys.path, model=str(tiny_model_directory / "model.onnx"))
    subprocess.run([sys.executable, "-c", script], env={"HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.iterdir())  # the library's telemetry keeps an id and a database of events there


def test_after_closing_nothing_is_embedded(tiny_model_directory: Path, golden: Golden) -> None:
    embedder = OnnxEmbedder(tiny_model_directory / "model.onnx", "f", DIM, threads=1)
    embedder.close()
    with pytest.raises(DeviceFailed):
        embedder.embed(golden.crops[:1])


def test_a_batch_beside_another_has_one_thread_and_the_same_answer(tiny_model_directory: Path, golden: Golden) -> None:
    sessions = Sessions(tiny_model_directory / "model.onnx", threads=2, shared=True)
    opened = [OnnxEmbedder(tiny_model_directory / "model.onnx", "f", DIM, 2, sessions=sessions) for _ in range(2)]
    alone = opened[0].embed(golden.crops[:4])
    with sessions.one() as first:  # a batch runs on it
        assert first.get_session_options().intra_op_num_threads == 2
        with sessions.one() as second:
            assert second.get_session_options().intra_op_num_threads == 1
        assert np.array_equal(opened[1].embed(golden.crops[:4]), alone)
    with sessions.one() as again:
        assert again is first
    opened[0].close()
    assert np.array_equal(opened[1].embed(golden.crops[:4]), alone)  # what one gives back the other keeps
    opened[1].close()
    with pytest.raises(DeviceFailed, match="closed"), sessions.one():
        pass
