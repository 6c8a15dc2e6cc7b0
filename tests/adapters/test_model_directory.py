import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.adapters.model_directory import ModelDirectory, sha256_of
from app.core.manifest import MANIFEST_FILE
from app.errors import BadModelDirectory

FILES = ("golden.npz", "model.onnx", "model_bs1.onnx", "model_bs4.onnx")


@pytest.fixture
def copy(tiny_model_directory: Path, tmp_path: Path) -> Path:
    """A model directory to damage."""
    return Path(shutil.copytree(tiny_model_directory, tmp_path / "copy"))


def refusal(path: Path) -> str:
    with pytest.raises(BadModelDirectory) as refused:
        ModelDirectory.open(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def change_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((path / MANIFEST_FILE).read_text())
    change(content)
    (path / MANIFEST_FILE).write_text(json.dumps(content))


def test_a_whole_directory_opens_and_finds_its_files(tiny_model_directory: Path) -> None:
    opened = ModelDirectory.open(tiny_model_directory)
    assert sorted(artefact.file for artefact in opened.manifest.files()) == sorted(FILES)
    assert opened.artefact("onnx-fp32") == tiny_model_directory / "model.onnx"
    assert opened.artefact("onnx-fp32", 4) == tiny_model_directory / "model_bs4.onnx"


def test_the_golden_crops_are_uint8_and_their_vectors_raw_float32(tiny_model_directory: Path) -> None:
    golden = ModelDirectory.open(tiny_model_directory).golden()
    assert (golden.crops.shape, str(golden.crops.dtype)) == ((8, 256, 128, 3), "uint8")
    assert (golden.vectors.shape, str(golden.vectors.dtype)) == ((8, 128), "float32")
    assert not np.allclose(np.linalg.norm(golden.vectors, axis=1), 1)


def test_an_artefact_that_was_not_built_is_asked_for_by_name(tiny_model_directory: Path) -> None:
    opened = ModelDirectory.open(tiny_model_directory)
    with pytest.raises(BadModelDirectory, match="has no onnx-fp32 artefact with batch size 3"):
        opened.artefact("onnx-fp32", 3)
    with pytest.raises(BadModelDirectory, match="has no om-fp16 artefact with a dynamic batch"):
        opened.artefact("om-fp16")


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(file: str, copy: Path) -> None:
    (copy / file).unlink()
    assert refusal(copy) == f"{copy / file} is missing"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("left", [0, 1, 1000])
def test_a_truncated_file_is_named_with_its_size(file: str, left: int, copy: Path) -> None:
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[:left])
    assert refusal(copy) == f"{copy / file} has {left} bytes, the manifest says {len(whole)}"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 0.9999])
def test_a_flipped_bit_is_found_wherever_it_is(file: str, where: float, copy: Path) -> None:
    data = bytearray((copy / file).read_bytes())
    data[int(where * len(data))] ^= 4
    (copy / file).write_bytes(data)
    assert refusal(copy) == f"{copy / file} is damaged: its sha256 is not the manifest's"


def test_swapped_files_are_found(copy: Path) -> None:
    (copy / "model_bs1.onnx").rename(copy / "x")
    (copy / "model_bs4.onnx").rename(copy / "model_bs1.onnx")
    (copy / "x").rename(copy / "model_bs4.onnx")
    assert "model_bs1.onnx" in refusal(copy)


def test_a_folder_in_the_place_of_a_file_is_no_file(copy: Path) -> None:
    (copy / "model.onnx").unlink()
    (copy / "model.onnx").mkdir()
    assert refusal(copy) == f"{copy / 'model.onnx'} is missing"


def test_other_files_in_the_directory_do_not_matter(copy: Path) -> None:
    (copy / "notes.txt").write_text("x")
    ModelDirectory.open(copy)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_half_written_manifest_is_refused(part: float, copy: Path) -> None:
    text = (copy / MANIFEST_FILE).read_text()
    (copy / MANIFEST_FILE).write_text(text[: int(part * len(text))])
    assert refusal(copy).startswith("manifest.json: the text: Invalid JSON")


def test_a_manifest_of_other_bytes_is_refused(copy: Path) -> None:
    (copy / MANIFEST_FILE).write_bytes(b"\xff\xfe\x00")
    assert refusal(copy).startswith(f"{copy / MANIFEST_FILE} cannot be read: ")


def test_an_unknown_key_in_the_manifest_is_refused_by_name(copy: Path) -> None:
    change_manifest(copy, lambda content: content["checkpoint"].update(colour="red"))
    assert refusal(copy) == "manifest.json: checkpoint.colour: Extra inputs are not permitted"


def test_a_directory_without_a_manifest_is_an_unfinished_export(copy: Path) -> None:
    (copy / MANIFEST_FILE).unlink()
    wanted = f"{copy} has no manifest.json: the export was not finished, or this is no model directory"
    assert refusal(copy) == wanted


def test_no_directory_at_all_is_said_so(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} is no directory"


@pytest.mark.parametrize(
    "arrays",
    [
        {"crops": np.zeros((8, 256, 128, 3), np.uint8)},
        {"crops": np.zeros((8, 128, 64, 3), np.uint8), "vectors": np.zeros((8, 128), np.float32)},
        {"crops": np.zeros((8, 256, 128, 3), np.float32), "vectors": np.zeros((8, 128), np.float32)},
        {"crops": np.zeros((8, 256, 128, 3), np.uint8), "vectors": np.zeros((8, 64), np.float32)},
        {"crops": np.zeros((7, 256, 128, 3), np.uint8), "vectors": np.zeros((8, 128), np.float32)},
        {"crops": np.zeros((0, 256, 128, 3), np.uint8), "vectors": np.zeros((0, 128), np.float32)},
        {"crops": np.array([{"a": 1}], dtype=object), "vectors": np.zeros((1, 128), np.float32)},
        None,
    ],
    ids=["no vectors", "small", "float", "dim", "count", "empty", "pickled", "no zip"],
)
def test_golden_crops_that_are_not_the_models_are_refused(arrays: dict[str, Any] | None, copy: Path) -> None:
    golden = copy / "golden.npz"
    if arrays is None:
        golden.write_bytes(b"PK\x03\x04 but no more")
    else:
        np.savez(golden, **arrays)
    described = {"sha256": sha256_of(golden), "size_bytes": golden.stat().st_size}
    change_manifest(copy, lambda content: content["golden"].update(described))
    with pytest.raises(BadModelDirectory, match="golden crops"):
        ModelDirectory.open(copy).golden()
