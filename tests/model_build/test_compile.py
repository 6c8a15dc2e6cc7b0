"""A model directory compiled with the stand-in ATC: what is made, kept and dropped, and what an interruption leaves."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import pytest

from app.adapters.model_directory import ModelDirectory, sha256_of
from app.core.manifest import OM_FP16, OM_FP16_AIPP, Compiled, Verification, fingerprint
from app.errors import BadModelDirectory, BadSettings, CompileFailed
from model_build.aipp import aipp_text
from model_build.compile import Outcome, Workshop, compile_directory
from model_build.plan import CompileOptions, Job, plan
from model_build.staging import staging
from model_build.toolkit import find_toolkit
from tests import standins
from tests.standins import om

P3 = CompileOptions("Ascend310P3", batch_sizes=(1, 4))


@dataclass
class Host:
    """A model directory and a host to compile it on; what was said, and how often atc was called to compile."""

    folder: Path
    model: Path
    said: list[str]

    def workshop(self, options: CompileOptions, **switches: object) -> Workshop:
        environment = standins.environment(self.folder, atc={"calls": str(self.folder / "calls"), **switches})
        return Workshop(options, find_toolkit(environment), self.model, self.said.append)

    def compile(self, options: CompileOptions, **switches: object) -> Outcome:
        return compile_directory(self.model, self.workshop(options, **switches))

    def calls(self) -> list[dict[str, object]]:
        """The calls that compile, since the last look."""
        if not (self.folder / "calls").exists():
            return []
        calls = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        (self.folder / "calls").unlink()
        return [call for call in calls if "--mode=1" not in call["argv"]]

    def names(self) -> set[str]:
        return {file.name for file in self.model.iterdir()}

    def facts(self) -> dict[str, Compiled | None]:
        """The OMs of a directory that opens: every file whole."""
        artefacts = ModelDirectory.open(self.model).manifest.artefacts
        return {artefact.file: artefact.compiled for artefact in artefacts if artefact.compiled}


@pytest.fixture
def host(tiny_model_directory: Path, tmp_path: Path) -> Host:
    return Host(tmp_path, shutil.copytree(tiny_model_directory, tmp_path / "model"), [])


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# What is made


def test_a_compiled_directory_says_what_each_om_is(host: Host) -> None:
    outcome = host.compile(P3)
    assert outcome.made == outcome.asked == ("model_bs1.om", "model_bs4.om")
    described = ModelDirectory.open(host.model).manifest
    oms = [artefact for artefact in described.artefacts if artefact.compiled]
    assert [(artefact.file, artefact.variant, artefact.batch) for artefact in oms] == [
        ("model_bs1.om", OM_FP16, 1), ("model_bs4.om", OM_FP16, 4)
    ]  # fmt: skip
    for artefact in oms:
        facts = artefact.compiled
        assert facts is not None
        assert (facts.dtype, facts.layout, facts.gears) == ("float32", "NCHW", ())
        assert (facts.soc_version, facts.precision_mode, facts.cann_version) == ("Ascend310P3", "force_fp16", "8.1.RC1")
        assert facts.weight_bytes is not None
        assert facts.work_bytes is not None
        assert artefact.sha256 == sha256_of(host.model / artefact.file)
    variant = described.variants[OM_FP16]
    assert (variant.precision, variant.runtime) == ("fp16", "aclruntime")
    weights = described.checkpoint.weights_sha256
    assert variant.fingerprint == fingerprint(weights, described.preprocessing, OM_FP16)
    assert variant.fingerprint != described.variants["onnx-fp32"].fingerprint


def test_the_rest_of_the_manifest_stays_and_nothing_of_atc_is_left_but_its_log(host: Host) -> None:
    before = ModelDirectory.open(host.model).manifest
    host.compile(P3)
    after = ModelDirectory.open(host.model).manifest
    onnx_alone = tuple(artefact for artefact in after.artefacts if artefact.compiled is None)
    assert after.model_copy(update={"artefacts": onnx_alone, "variants": before.variants}) == before
    made = {"model_bs1.om", "model_bs1.om.log", "model_bs4.om", "model_bs4.om.log"}
    assert host.names() == {artefact.file for artefact in before.files()} | {"manifest.json"} | made
    assert "ATC run success" in (host.model / "model_bs4.om.log").read_text()


def test_atc_works_in_a_private_folder_on_bare_names(host: Host) -> None:
    host.compile(P3)
    one, four = host.calls()
    assert one["argv"] == [
        "--framework=5", "--model=model_bs1.onnx", "--output=model_bs1", "--input_shape=input:1,3,256,128",
        "--input_format=NCHW", "--soc_version=Ascend310P3",
    ]  # fmt: skip
    assert one["cwd"] != four["cwd"]
    assert not Path(str(one["cwd"])).exists()
    assert str(host.folder).encode() not in (host.model / "model_bs1.om").read_bytes()


def test_a_size_that_was_not_exported_is_derived_from_the_dynamic_graph(host: Host) -> None:
    host.compile(replace(P3, batch_sizes=(2,)))
    _, graph = om.read(host.model / "model_bs2.om")
    shape = onnx.load_from_string(graph).graph.input[0].type.tensor_type.shape
    assert [axis.dim_value for axis in shape.dim] == [2, 3, 256, 128]
    assert "model_bs2.onnx" not in host.names()


def test_the_aipp_form_is_a_variant_of_its_own_beside_the_other(host: Host) -> None:
    host.compile(replace(P3, batch_sizes=(4,)))
    host.compile(replace(P3, batch_sizes=(4,), aipp=True))
    described = ModelDirectory.open(host.model).manifest
    facts = {artefact.variant: artefact.compiled for artefact in described.artefacts if artefact.compiled}
    assert host.names() >= {"model_bs4.om", "model_bs4_aipp.om"}
    taken = facts[OM_FP16_AIPP]
    assert taken is not None
    assert (taken.dtype, taken.layout) == ("uint8", "NHWC")
    assert len({variant.fingerprint for variant in described.variants.values()}) == 3
    header, _ = om.read(host.model / "model_bs4_aipp.om")
    assert (header.dtype, header.input_shape) == ("uint8", [4, 256, 128, 3])
    assert header.aipp is not None
    assert header.aipp["min_chn_0"] in aipp_text(described.preprocessing)


def test_a_dynamic_batch_is_one_om_of_all_sizes(host: Host) -> None:
    host.compile(replace(P3, batch_sizes=(1, 4, 8), dynamic=True))
    facts = host.facts()["model_dyn.om"]
    assert facts is not None
    assert facts.gears == (1, 4, 8)
    (call,) = host.calls()
    assert "--input_shape=input:-1,3,256,128" in str(call["argv"])
    assert "--dynamic_batch_size=1,4,8" in str(call["argv"])


@pytest.mark.parametrize(
    ("mode", "aipp", "variant", "file"),
    [
        (None, False, "om-fp16", "model_bs4.om"),
        ("force_fp16", False, "om-fp16", "model_bs4.om"),
        ("force_fp32", False, "om-fp32", "model_bs4_fp32.om"),
        ("must_keep_origin_dtype", True, "om-origin-aipp", "model_bs4_origin_aipp.om"),
        ("allow_fp32_to_fp16", False, "om-fp32-to-fp16", "model_bs4_fp32_to_fp16.om"),
        ("allow_mix_precision", False, "om-mixed", "model_bs4_mixed.om"),
    ],
)
def test_each_precision_has_its_own_variant_and_files(mode: str | None, aipp: bool, variant: str, file: str) -> None:
    job = Job(4, (), aipp, mode)
    assert (job.variant, job.file) == (variant, file)


def test_another_precision_is_said_to_atc_and_kept_in_the_manifest(host: Host) -> None:
    host.compile(replace(P3, batch_sizes=(4,), precision_mode="force_fp32"))
    (call,) = host.calls()
    assert "--precision_mode=force_fp32" in str(call["argv"])
    assert ModelDirectory.open(host.model).manifest.variants["om-fp32"].precision == "fp32"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (replace(P3, batch_sizes=()), "name at least one"),
        (replace(P3, batch_sizes=(4,), dynamic=True), "a dynamic batch has 2 to 100 batch sizes, not 1"),
        (replace(P3, precision_mode="bf16"), "'bf16' is no precision mode; there are force_fp16, force_fp32"),
    ],
)
def test_wishes_that_cannot_be_are_refused_before_anything_is_done(options: CompileOptions, said: str) -> None:
    with pytest.raises(BadSettings, match=said):
        plan(options)


# What is kept


def test_what_is_there_already_is_not_made_again(host: Host) -> None:
    host.compile(P3)
    host.calls()
    before = content(host.model)
    outcome = host.compile(P3)
    assert host.calls() == []
    assert outcome.made == ()
    assert content(host.model) == before


def test_saying_the_default_precision_makes_no_difference(host: Host) -> None:
    host.compile(P3)
    assert host.compile(replace(P3, precision_mode="force_fp16")).made == ()


def test_further_sizes_are_added_to_those_that_are_there(host: Host) -> None:
    host.compile(P3)
    assert host.compile(replace(P3, batch_sizes=(4, 8))).made == ("model_bs8.om",)
    assert set(host.facts()) == {"model_bs1.om", "model_bs4.om", "model_bs8.om"}


def test_oms_of_another_chip_go_and_it_is_said(host: Host) -> None:
    host.compile(P3)
    outcome = host.compile(replace(P3, soc_version="Ascend310P1", batch_sizes=(4,)))
    assert outcome.made == ("model_bs4.om",)
    assert {name for name in host.names() if name.endswith((".om", ".log"))} == {"model_bs4.om", "model_bs4.om.log"}
    facts = host.facts()["model_bs4.om"]
    assert facts is not None
    assert facts.soc_version == "Ascend310P1"
    assert "model_bs1.om does not hold any more: it is for Ascend310P3, not for Ascend310P1" in host.said


def test_oms_of_another_toolkit_are_made_again_and_it_is_said(host: Host) -> None:
    host.compile(P3)
    assert host.compile(P3, cann_version="8.2.RC1").made == ("model_bs1.om", "model_bs4.om")
    assert "model_bs1.om does not hold any more: CANN 8.1.RC1 made it, here is 8.2.RC1" in host.said


def test_oms_of_another_graph_are_made_again(host: Host) -> None:
    host.compile(P3)
    described = ModelDirectory.open(host.model).manifest
    graph = onnx.load(host.model / "model_bs4.onnx")
    graph.doc_string = "changed"
    onnx.save(graph, host.model / "model_bs4.onnx")
    size, digest = (host.model / "model_bs4.onnx").stat().st_size, sha256_of(host.model / "model_bs4.onnx")
    artefacts = tuple(
        artefact.model_copy(update={"sha256": digest, "size_bytes": size})
        if artefact.file == "model_bs4.onnx"
        else artefact
        for artefact in described.artefacts
    )
    (host.model / "manifest.json").write_text(described.model_copy(update={"artefacts": artefacts}).to_json())
    assert host.compile(P3).made == ("model_bs4.om",)


def test_oms_that_do_not_hold_go_even_where_nothing_is_made(host: Host) -> None:
    host.compile(P3)
    host.compile(replace(P3, batch_sizes=(4,)), cann_version="8.2.RC1")
    assert set(host.facts()) == {"model_bs4.om"}


def test_other_variants_stay_whatever_chip_they_are_for(host: Host) -> None:
    host.compile(P3)
    host.compile(replace(P3, aipp=True, soc_version="Ascend310P1"))
    assert len(host.facts()) == 4


def test_a_verification_stays_with_the_files_that_were_verified(host: Host) -> None:
    host.compile(P3)
    opened = ModelDirectory.open(host.model).manifest
    agreement = opened.verification["onnx-fp32"]
    verified = opened.model_copy(update={"verification": {**opened.verification, OM_FP16: agreement}})
    (host.model / "manifest.json").write_text(verified.to_json())

    def verification() -> dict[str, Verification]:
        return dict(ModelDirectory.open(host.model).manifest.verification)

    host.compile(replace(P3, aipp=True))
    assert verification() == {"onnx-fp32": agreement, OM_FP16: agreement}
    host.compile(replace(P3, batch_sizes=(8,)))
    assert verification() == {"onnx-fp32": agreement}


# What a failure leaves


def test_a_failed_compilation_leaves_the_directory_as_it_was_but_for_the_log(host: Host) -> None:
    before = content(host.model)
    with pytest.raises(CompileFailed, match=r"model_bs1\.om: atc ended with status 255"):
        host.compile(P3, error="EZ3003: No supported Ops kernel and engine are found for [Conv_0], optype [Conv2D].")
    log = (host.model / "model_bs1.om.log").read_text()
    assert "EZ3003: No supported Ops kernel" in log
    assert content(host.model) == before | {"model_bs1.om.log": log.encode()}


class Stopped(BaseException):
    """The process ends here."""


def stopping(om_file: str) -> Callable[[str, float, str], None]:
    """A watcher that ends it all while that OM is in work."""

    def watch(file: str, _elapsed_s: float, _line: str) -> None:
        if file == om_file:
            raise Stopped

    return watch


def test_an_interrupted_compilation_goes_on_where_it_was(host: Host) -> None:
    with pytest.raises(Stopped):
        compile_directory(host.model, replace(host.workshop(P3), watch=stopping("model_bs4.om")))
    assert set(host.facts()) == {"model_bs1.om"}
    assert host.compile(P3).made == ("model_bs4.om",)


def test_an_interruption_while_an_om_is_replaced_keeps_the_old_one(host: Host) -> None:
    host.compile(P3)
    before = host.facts()
    other = replace(P3, soc_version="Ascend310P1")
    with pytest.raises(Stopped):
        compile_directory(host.model, replace(host.workshop(other), watch=stopping("model_bs1.om")))
    assert host.facts() == before


def test_a_move_that_fails_leaves_a_directory_that_opens(host: Host) -> None:
    host.compile(P3)
    shutil.copytree(host.model, host.folder / "elsewhere")
    (host.model / "model_bs8.om" / "full").mkdir(parents=True)  # in the place of what comes
    with pytest.raises(BadModelDirectory, match="cannot be written"):
        host.compile(replace(P3, batch_sizes=(8,)))
    assert set(host.facts()) == {"model_bs1.om", "model_bs4.om"}


def test_a_folder_that_is_not_there_is_not_made(host: Host) -> None:
    missing = host.folder / "none"
    with pytest.raises(BadModelDirectory, match="none is no directory"):
        compile_directory(missing, host.workshop(P3))
    assert not missing.exists()


def test_nothing_is_compiled_while_another_build_writes_the_directory(host: Host) -> None:
    with staging(host.model), pytest.raises(BadModelDirectory, match="is being written by another process"):
        host.compile(P3)
    assert host.calls() == []
