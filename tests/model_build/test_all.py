"""From a checkpoint to OMs in one go. ATC is the stand-in, the chip an embedder that answers as the test wants."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.adapters.model_directory import ModelDirectory
from app.adapters.onnx import OnnxEmbedder
from app.core.manifest import OM_FP16, OM_FP16_AIPP, Artefact
from app.errors import BadDevice, CompileFailed, VerificationFailed
from app.ports import Crops, Embedder, Floats
from model_build.all import build_all, steps_of_all
from model_build.build import Built, Options
from model_build.checkpoint import Weights
from model_build.compile import Workshop
from model_build.plan import CompileOptions
from model_build.toolkit import find_toolkit
from model_build.verify import verify_directory
from tests import standins
from tests.standins import om

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
P3 = CompileOptions("Ascend310P3", batch_sizes=(1, 4))


class Turned:
    """The vectors of the ONNX inside the stand-in's OM, turned by an angle, and rounded to float16 as an NPU's are."""

    last_run = None

    def __init__(self, inner: OnnxEmbedder, radians: float) -> None:
        self.inner, self.radians = inner, radians
        self.fingerprint, self.dim, self.batch_sizes = inner.fingerprint, inner.dim, inner.batch_sizes

    def embed(self, crops: Crops) -> Floats:
        vectors = self.inner.embed(crops)
        across = np.roll(vectors, 1, axis=1)
        across -= vectors * (across * vectors).sum(1, keepdims=True) / (vectors * vectors).sum(1, keepdims=True)
        across *= np.linalg.norm(vectors, axis=1, keepdims=True) / np.linalg.norm(across, axis=1, keepdims=True)
        turned: Floats = np.cos(self.radians) * vectors + np.sin(self.radians) * across
        return turned.astype(np.float16).astype(np.float32)

    def close(self) -> None:
        self.inner.close()


@dataclass
class Chip:
    """A chip of one kind that turns vectors by an angle; `opened` tells what ran on it."""

    scratch: Path
    radians: float = 0
    soc_version: str = "Ascend310P3"
    opened: list[str] = field(default_factory=list)

    def absent(self, soc_version: str) -> str | None:
        return None if soc_version == self.soc_version else f"it is for {soc_version}, here is {self.soc_version}"

    def open(self, folder: Path, artefacts: Sequence[Artefact], fingerprint: str, dim: int) -> Embedder:
        (artefact,) = artefacts
        self.opened.append(artefact.file)
        _, graph = om.read(folder / artefact.file)
        (self.scratch / "inside.onnx").write_bytes(graph)
        return Turned(OnnxEmbedder(self.scratch / "inside.onnx", fingerprint, dim), self.radians)


class NoChip(Chip):
    def absent(self, soc_version: str) -> str | None:
        return "aclruntime is not installed here"


@dataclass
class World:
    """One checkpoint, one output directory, one host."""

    weights: Weights
    folder: Path
    said: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.folder / "model"

    def workshop(self, options: CompileOptions = P3, **switches: object) -> Workshop:
        environment = standins.environment(self.folder, atc={"calls": str(self.folder / "calls"), **switches})
        return Workshop(options, find_toolkit(environment), self.output, self.said.append)

    def build(self, chip: Chip, options: CompileOptions = P3, **switches: object) -> Built:
        workshop = self.workshop(options, **switches)
        return build_all(self.weights, self.output, Options((1,)), workshop, chip, NOW, self.steps.append)

    def names(self) -> set[str]:
        return {file.name for file in self.output.iterdir()}


@pytest.fixture
def world(tiny_weights: Weights, tmp_path: Path) -> World:
    return World(tiny_weights, tmp_path)


def test_all_is_export_verification_oms_and_their_verification(world: World, tmp_path: Path) -> None:
    chip = Chip(tmp_path)
    built = world.build(chip)
    assert [(row.file, row.batch, row.passed) for row in built.rows] == [
        ("model.onnx", None, True), ("model_bs1.onnx", 1, True), ("model_bs1.om", 1, True), ("model_bs4.om", 4, True)
    ]  # fmt: skip
    described = ModelDirectory.open(world.output).manifest
    assert set(described.variants) == set(described.verification) == {"onnx-fp32", OM_FP16}
    agreement = described.verification[OM_FP16]
    assert agreement.crops == 16  # eight through each of two OMs
    assert agreement.cosine_min > 0.99999
    assert agreement.relative_difference > 1e-4  # float16: as graphs they would not have passed
    assert chip.opened == ["model_bs1.om", "model_bs4.om"]
    assert len(world.steps) == steps_of_all(Options((1,)), world.workshop())


def test_without_a_chip_the_oms_are_made_and_it_is_said_that_they_are_not_verified(
    world: World, tmp_path: Path
) -> None:
    world.build(NoChip(tmp_path))
    described = ModelDirectory.open(world.output).manifest
    assert OM_FP16 in described.variants
    assert OM_FP16 not in described.verification
    assert "model_bs4.om is not verified: aclruntime is not installed here" in world.said


def test_oms_for_another_chip_than_the_one_here_are_not_verified(world: World, tmp_path: Path) -> None:
    world.build(Chip(tmp_path, soc_version="Ascend310P1"))
    assert "model_bs1.om is not verified: it is for Ascend310P3, here is Ascend310P1" in world.said


def test_an_om_whose_vectors_point_elsewhere_is_never_written(world: World, tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed) as refusal:
        world.build(Chip(tmp_path, radians=0.1))
    # cos 0.1 = 0.9950
    said = "vectors of fewer bits differ: model_bs1.om at batch size 1 (cosine 0.9950; 0.999 is needed), "
    assert str(refusal.value) == f"{said}model_bs4.om at batch size 4 (cosine 0.9950; 0.999 is needed)"
    assert world.names() == {"model_bs1.om.log", "model_bs4.om.log"}


def test_a_chip_that_does_not_take_an_om_fails_the_build(world: World, tmp_path: Path) -> None:
    class Refusing(Chip):
        def open(self, folder: Path, artefacts: Sequence[Artefact], fingerprint: str, dim: int) -> Embedder:
            raise BadDevice("the OM does not load")

    with pytest.raises(BadDevice, match="does not load"):
        world.build(Refusing(tmp_path))
    assert "manifest.json" not in world.names()


def test_the_log_of_a_failed_compilation_is_all_that_stays(world: World, tmp_path: Path) -> None:
    with pytest.raises(CompileFailed, match=r"The whole log: .*model/model_bs1\.om\.log"):
        world.build(Chip(tmp_path), error="EZ9999: Inner Error!")
    assert world.names() == {"model_bs1.om.log"}


def test_building_again_makes_no_om_again_that_would_be_the_same(world: World, tmp_path: Path) -> None:
    world.build(Chip(tmp_path))
    before = {name: (world.output / name).read_bytes() for name in ("model_bs1.om", "model_bs4.om")}
    (world.folder / "calls").unlink()
    chip = Chip(tmp_path)
    world.build(chip, replace(P3, batch_sizes=(4,)))
    assert not (world.folder / "calls").exists()
    assert chip.opened == ["model_bs1.om", "model_bs4.om"]
    assert {name: (world.output / name).read_bytes() for name in before} == before
    assert world.names() >= {"model_bs4.om.log"}
    ModelDirectory.open(world.output)


def test_oms_of_other_weights_go_with_their_model(world: World, tmp_path: Path) -> None:
    world.build(NoChip(tmp_path))
    other = replace(world, weights=replace(world.weights, weights_sha256="0" * 64))
    other.build(NoChip(tmp_path), replace(P3, batch_sizes=(4,)))
    assert {name for name in world.names() if ".om" in name} == {"model_bs4.om", "model_bs4.om.log"}
    assert "model_bs1.om does not hold any more: it has other weights" in world.said


def test_export_alone_takes_the_oms_of_the_model_it_replaces_away(world: World, tmp_path: Path) -> None:
    from model_build.build import build

    world.build(NoChip(tmp_path))
    build(world.weights, world.output, Options((1,)), NOW)
    assert world.names() == {"golden.npz", "manifest.json", "model.onnx", "model_bs1.onnx"}


def test_each_size_of_a_dynamic_om_is_verified(world: World, tmp_path: Path) -> None:
    built = world.build(Chip(tmp_path), replace(P3, batch_sizes=(1, 3), dynamic=True, aipp=True))
    rows = [(row.file, row.batch) for row in built.rows if row.half]
    assert rows == [("model_dyn_aipp.om", 1), ("model_dyn_aipp.om", 3)]
    assert set(built.directory.manifest.verification) == {"onnx-fp32", OM_FP16_AIPP}


def test_verify_looks_at_every_variant_and_says_what_it_leaves_out(world: World, tmp_path: Path) -> None:
    directory = world.build(NoChip(tmp_path)).directory
    said: list[str] = []
    rows = list(verify_directory(directory, NoChip(tmp_path), said.append))
    assert [row.file for row in rows] == ["model.onnx", "model_bs1.onnx"]
    assert len(said) == 2
    rows = list(verify_directory(directory, Chip(tmp_path)))
    assert [row.file for row in rows] == ["model.onnx", "model_bs1.onnx", "model_bs1.om", "model_bs4.om"]
