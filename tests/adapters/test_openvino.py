import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from app.adapters.model_directory import Golden, ModelDirectory
from app.adapters.openvino import BF16_FLAGS, OpenVinoEmbedder, cpu_flags, open_variant, require_bf16
from app.core.metrics import unit
from app.errors import BadDevice, BadModelDirectory, DeviceFailed

DIM = 128  # of the tiny model
needs_bf16 = pytest.mark.skipif(not cpu_flags() & BF16_FLAGS, reason="this CPU does not compute in bfloat16")


@pytest.fixture
def graph(tiny_model_directory: Path) -> Path:
    return tiny_model_directory / "model.onnx"


@pytest.fixture
def embedder(graph: Path) -> Iterator[OpenVinoEmbedder]:
    opened = OpenVinoEmbedder(graph, "openvino-fp32-tiny", DIM, "fp32", threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def golden(tiny_model_directory: Path) -> Golden:
    return ModelDirectory.open(tiny_model_directory).golden()


def test_in_float32_the_golden_crops_give_torchs_vectors(embedder: OpenVinoEmbedder, golden: Golden) -> None:
    vectors = embedder.embed(golden.crops)
    assert np.abs(vectors - golden.vectors).max() <= 1e-5 * np.abs(golden.vectors).max()


@needs_bf16
def test_in_bfloat16_they_are_near_and_not_the_same(graph: Path, golden: Golden) -> None:
    # Without a hint this CPU would take bfloat16 for float32 as well: that the two differ shows that each was told.
    embedder = OpenVinoEmbedder(graph, "f", DIM, "bf16", threads=1)
    vectors = embedder.embed(golden.crops)
    embedder.close()
    cosines = (unit(vectors) * unit(golden.vectors)).sum(axis=1)
    assert cosines.min() > 0.999
    assert np.abs(vectors - golden.vectors).max() > 1e-4 * np.abs(golden.vectors).max()


def test_a_cpu_without_bfloat16_is_refused_although_the_library_would_take_it(graph: Path) -> None:
    with pytest.raises(BadDevice) as refusal:
        OpenVinoEmbedder(graph, "f", DIM, "bf16", cpu=frozenset({"avx2", "avx512f", "avx512_vnni"}))
    assert str(refusal.value) == (
        "this CPU does not compute in bfloat16 (it has neither avx512_bf16 nor amx_bf16); "
        "use onnx-fp32, or onnx-int8 where it has VNNI"
    )


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_either_instruction_set_is_enough(flag: str) -> None:
    require_bf16(frozenset({"avx2", flag}))


def test_the_cpus_flags_are_those_of_linux(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nflags\t\t: fpu avx512_bf16\nbugs\t\t: amx_bf16\n\nflags\t: other\n"
    )
    assert cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx512_bf16"}
    assert cpu_flags(tmp_path / "nowhere") == frozenset()


def test_a_precision_that_is_not_known_is_refused(graph: Path) -> None:
    with pytest.raises(BadModelDirectory, match="computes in fp32 or bf16 here, not in 'f16'"):
        OpenVinoEmbedder(graph, "f", DIM, "f16")


def test_a_variant_is_opened_with_the_graph_precision_and_fingerprint_of_the_manifest(
    fast_model_directory: Path,
) -> None:
    directory = ModelDirectory.open(fast_model_directory)
    embedder = open_variant(directory, "openvino-fp32", threads=1, batch_sizes=(1, 3))
    assert embedder.fingerprint == directory.manifest.variants["openvino-fp32"].fingerprint
    assert (embedder.dim, embedder.batch_sizes) == (DIM, (1, 3))
    assert embedder.fingerprint.startswith("openvino-fp32-")
    embedder.close()


def test_crops_of_another_size_are_a_failure_of_the_device_in_one_line(embedder: OpenVinoEmbedder) -> None:
    with pytest.raises(DeviceFailed) as refusal:
        embedder.embed(np.zeros((1, 64, 32, 3), dtype=np.uint8))
    assert str(refusal.value).startswith("OpenVINO: ")
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadModelDirectory, match=r"^nowhere\.onnx cannot be loaded: ") as refusal:
        OpenVinoEmbedder(tmp_path / "nowhere.onnx", "f", DIM, "fp32")
    assert "\n" not in str(refusal.value)


def test_a_graph_of_another_dimension_or_for_other_crops_is_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BadModelDirectory, match=r"maps .* to \['f32 \[\?,128\]'\]; .* to \['f32 \[\?,2048\]'\] is needed"
    ):
        OpenVinoEmbedder(graph, "f", 2048, "fp32")
    model = onnx.load(graph)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 128
    onnx.save(model, tmp_path / "flat.onnx")
    with pytest.raises(BadModelDirectory, match=r"^flat\.onnx maps \['f32 \[\?,3,128,128\]'\]"):
        OpenVinoEmbedder(tmp_path / "flat.onnx", "f", DIM, "fp32")


def test_after_closing_nothing_is_embedded(graph: Path, golden: Golden) -> None:
    embedder = OpenVinoEmbedder(graph, "f", DIM, "fp32", threads=1)
    embedder.close()
    with pytest.raises(DeviceFailed):
        embedder.embed(golden.crops[:1])


EMBED = """
import sys
sys.path[:] = {path!r}
asked = []
sys.addaudithook(lambda event, facts: asked.append((event, facts)) if event.startswith("socket.") else None)
from pathlib import Path
import numpy as np
from app.adapters.openvino import OpenVinoEmbedder
embedder = OpenVinoEmbedder(Path({model!r}), "f", 128, "fp32", 1)
embedder.embed(np.zeros((1, 256, 128, 3), np.uint8))
embedder.close()
assert not asked, asked
assert "openvino_telemetry.main" not in sys.modules
"""


def test_nobody_is_reported_to(graph: Path, tmp_path: Path) -> None:
    # The reporting module keeps an id in the home folder and sends by HTTP; it is not even loaded.
    script = EMBED.format(path=sys.path, model=str(graph))
    subprocess.run([sys.executable, "-c", script], env={"HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.iterdir())
