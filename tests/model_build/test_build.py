import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from app.adapters.model_directory import ModelDirectory, sha256_of
from app.core.manifest import Preprocessing, fingerprint
from app.errors import BadModelDirectory, VerificationFailed
from model_build.build import Options, build, steps
from model_build.checkpoint import Weights
from model_build.export import export_onnx
from model_build.golden import draw_golden_crops
from model_build.made_up import made_up_network
from model_build.network import ReidNetwork
from model_build.staging import publish, staging
from model_build.verify import verify_directory

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
TWO = Options(batch_sizes=(1, 4))


def tampered(network: ReidNetwork) -> ModelProto:
    """An exporter that loses the neck's bias on the way."""
    other = ReidNetwork(network.architecture)
    other.load_state_dict(network.state_dict())
    other.bn.bias.data.zero_()
    return export_onnx(other.eval())


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def test_a_built_directory_opens_and_says_what_it_is(tiny_weights: Weights, tmp_path: Path) -> None:
    built = build(tiny_weights, tmp_path / "model", TWO, NOW)
    assert names(tmp_path) == ["given.ckpt", "model"]
    assert names(tmp_path / "model") == [
        "golden.npz",
        "manifest.json",
        "model.onnx",
        "model_bs1.onnx",
        "model_bs4.onnx",
    ]
    opened = ModelDirectory.open(tmp_path / "model")
    facts = opened.manifest
    assert opened == built.directory
    assert (facts.dim, facts.width, facts.depths, facts.opset) == (128, 4, (1, 1, 1, 1), 11)
    assert (facts.input.name, facts.input.shape) == ("input", ("b", 3, 256, 128))
    assert (facts.output.name, facts.output.shape) == ("output", ("b", 128))
    assert facts.created_at == "2026-03-04T05:06:07Z"
    assert facts.checkpoint == tiny_weights.fact()
    assert facts.checkpoint.sha256 == sha256_of(tmp_path / "given.ckpt")
    assert set(facts.tools) == {"python", "torch", "onnx", "onnxruntime", "numpy", "pillow"}
    assert [(a.file, a.variant, a.batch) for a in facts.artefacts] == [
        ("model.onnx", "onnx-fp32", None), ("model_bs1.onnx", "onnx-fp32", 1), ("model_bs4.onnx", "onnx-fp32", 4)
    ]  # fmt: skip
    assert opened.artefact("onnx-fp32", 4).name == "model_bs4.onnx"


def test_all_batch_sizes_share_the_fingerprint_of_weights_and_preprocessing(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    built = build(tiny_weights, tmp_path / "model", TWO, NOW)
    wanted = fingerprint(tiny_weights.weights_sha256, Preprocessing(), "onnx-fp32")
    assert {name: fact.fingerprint for name, fact in built.directory.manifest.variants.items()} == {"onnx-fp32": wanted}


def test_the_manifest_holds_the_measured_agreement_and_golden_vectors_verify_again(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    built = build(tiny_weights, tmp_path / "model", TWO, NOW)
    figures = built.directory.manifest.verification["onnx-fp32"]
    assert figures.crops == 24  # eight through each of three files
    assert 0 < figures.relative_difference < 1e-5
    assert figures.cosine_min > 0.9999999
    assert np.array_equal(built.directory.golden().crops, draw_golden_crops())
    assert [(row.file, row.passed) for row in verify_directory(built.directory)] == [
        ("model.onnx", True), ("model_bs1.onnx", True), ("model_bs4.onnx", True)
    ]  # fmt: skip


def test_the_label_is_the_callers_else_the_checkpoints_else_yours(tiny_weights: Weights, tmp_path: Path) -> None:
    def label_of(weights: Weights, label: str | None) -> str:
        return build(weights, tmp_path / "model", Options((), label), NOW).directory.manifest.label

    assert label_of(tiny_weights, "gate 3") == "gate 3"
    assert label_of(tiny_weights, None) == "made-up weights, meaningless vectors"
    assert label_of(replace(tiny_weights, label=None), None) == "your checkpoint"


def test_created_at_is_in_utc_whatever_the_clocks_zone(tiny_weights: Weights, tmp_path: Path) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    built = build(tiny_weights, tmp_path / "model", Options(()), elsewhere)
    assert built.directory.manifest.created_at == "2026-03-04T05:06:07Z"


def test_every_step_is_reported(tiny_weights: Weights, tmp_path: Path) -> None:
    said: list[str] = []
    build(tiny_weights, tmp_path / "model", TWO, NOW, report=said.append)
    assert len(said) == steps(TWO) == 6
    assert said[-2:] == ["golden crops through model_bs4.onnx", "writing the model directory"]


def test_a_graph_whose_vectors_are_not_torchs_is_never_written(tiny_weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match=r"model\.onnx by .*, model_bs1\.onnx by .*, model_bs4\.onnx by "):
        build(tiny_weights, tmp_path / "model", TWO, NOW, to_onnx=tampered)
    assert names(tmp_path) == ["given.ckpt"]


def test_a_failed_build_leaves_the_old_model_as_it_was(tiny_weights: Weights, tmp_path: Path) -> None:
    build(tiny_weights, tmp_path / "model", TWO, NOW)
    before = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    with pytest.raises(VerificationFailed):
        build(tiny_weights, tmp_path / "model", TWO, NOW, to_onnx=tampered)
    assert {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()} == before


def test_building_again_replaces_the_model_and_leaves_other_files(
    tiny_weights: Weights, tmp_path: Path, read: Callable[[object], Weights]
) -> None:
    build(tiny_weights, tmp_path / "model", TWO, NOW)
    (tmp_path / "model" / "notes.txt").write_text("mine")
    other = read(made_up_network(tiny_weights.architecture, seed=2).state_dict())
    build(other, tmp_path / "model", Options((8,)), NOW)
    assert names(tmp_path / "model") == ["golden.npz", "manifest.json", "model.onnx", "model_bs8.onnx", "notes.txt"]
    assert ModelDirectory.open(tmp_path / "model").manifest.checkpoint.weights_sha256 == other.weights_sha256


def test_an_old_directory_with_a_broken_manifest_is_replaced(tiny_weights: Weights, tmp_path: Path) -> None:
    build(tiny_weights, tmp_path / "model", Options(()), NOW)
    (tmp_path / "model" / "manifest.json").write_text("{")
    build(tiny_weights, tmp_path / "model", Options(()), NOW)
    ModelDirectory.open(tmp_path / "model")


class Stopped(BaseException):
    """The process ends here."""


def test_a_build_stopped_at_any_step_leaves_no_directory_that_opens(tiny_weights: Weights, tmp_path: Path) -> None:
    for last in range(steps(TWO)):
        said: list[str] = []

        def stop(step: str, last: int = last, said: list[str] = said) -> None:
            said.append(step)
            if len(said) > last:
                raise Stopped

        with pytest.raises(Stopped):
            build(tiny_weights, tmp_path / "model", TWO, NOW, report=stop)
        assert not (tmp_path / "model").exists()


def test_publishing_stopped_between_two_files_leaves_no_directory_that_opens(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    build(tiny_weights, tmp_path / "old", TWO, NOW)
    build(tiny_weights, tmp_path / "new", TWO, NOW)
    # A folder in the place of the last file but the manifest: the move of that one fails, after the others.
    (tmp_path / "old" / "model_bs4.onnx").unlink()
    (tmp_path / "old" / "model_bs4.onnx" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="model_bs4"):
        publish(tmp_path / "new", tmp_path / "old", stale=set())
    with pytest.raises(BadModelDirectory, match="the export was not finished"):
        ModelDirectory.open(tmp_path / "old")


def test_what_an_interrupted_build_left_is_cleared_away(tiny_weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "model" / ".partial-abc").mkdir(parents=True)
    (tmp_path / "model" / ".partial-abc" / "model.onnx").write_bytes(b"half")
    build(tiny_weights, tmp_path / "model", Options(()), NOW)
    assert names(tmp_path / "model") == ["golden.npz", "manifest.json", "model.onnx"]


def test_two_builds_of_one_directory_do_not_mix(tiny_weights: Weights, tmp_path: Path) -> None:
    with staging(tmp_path / "model"), pytest.raises(BadModelDirectory, match="is being written by another process"):
        build(tiny_weights, tmp_path / "model", Options(()), NOW)
    build(tiny_weights, tmp_path / "model", Options(()), NOW)


def test_the_lock_is_gone_with_its_owner(tmp_path: Path) -> None:
    with staging(tmp_path):
        pass
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_an_output_that_is_a_file_is_refused_by_name(tiny_weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    with pytest.raises(BadModelDirectory, match="model cannot be written: File exists"):
        build(tiny_weights, tmp_path / "model", Options(()), NOW)
    assert (tmp_path / "model").read_text() == "a file"


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tiny_weights: Weights, tmp_path: Path) -> None:
    def full(network: ReidNetwork) -> ModelProto:
        raise OSError(28, "No space left on device")

    with pytest.raises(BadModelDirectory, match="model cannot be written: No space left on device"):
        build(tiny_weights, tmp_path / "model", Options(()), NOW, to_onnx=full)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("file", ["golden.npz", "model.onnx", "model_bs1.onnx", "model_bs4.onnx"])
def test_a_verification_reads_no_damaged_file(file: str, tiny_model_directory: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_model_directory, tmp_path / "copy")
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(BadModelDirectory, match=rf"{file} is damaged"):
        ModelDirectory.open(copy)
