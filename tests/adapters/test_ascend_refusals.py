"""What must not be loaded on a chip, and what is said of it; on a stand-in of aclruntime, never on an NPU."""

import sys
from pathlib import Path

import pytest

from app.adapters.model_directory import ModelDirectory
from app.errors import BadDevice, BadSettings, DeviceFailed
from tests import standins
from tests.adapters.on_npu import CROPS, Pretend, both_generations, fault, opened, swapped


@pytest.mark.parametrize(
    ("put", "in_place_of", "variant", "sentence"),
    [
        ("model_bs1_aipp.om", "model_bs1.om", "om-fp16", r"takes type 4, shape \(1, 256, 128, 3\), 98304 bytes"),
        ("model_bs4.om", "model_bs1.om", "om-fp16", r"takes type 0, shape \(4, 3, 256, 128\)"),
        ("model_dyn.om", "model_bs1.om", "om-fp16", r"shape \(-1, 3, 256, 128\)"),
        # The same number of bytes, which is all that the library compares: it would run, and give nonsense.
        (
            "model_bs1.om",
            "model_bs4_aipp.om",
            "om-fp16-aipp",
            r"takes type 0, .* 393216 bytes; .* uint8 .* 393216 bytes",
        ),
    ],
)
def test_an_om_that_is_not_what_the_manifest_says_is_refused_before_it_runs(
    put: str,
    in_place_of: str,
    variant: str,
    sentence: str,
    directory: ModelDirectory,
    atlas_host: Pretend,
    tmp_path: Path,
) -> None:
    atlas_host()
    size = int(in_place_of.removeprefix("model_bs")[0])
    with pytest.raises(BadDevice, match=sentence):
        opened(swapped(directory, tmp_path, put, in_place_of), size, variant=variant)


@both_generations
def test_an_om_for_another_chip_is_refused_by_the_library(
    generation: str, directory: ModelDirectory, atlas_host: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas_host(acl={"generation": generation, "chips": ["Ascend910B4"]})
    monkeypatch.setenv("PATH", "/nowhere")  # no npu-smi, which would say so first
    with pytest.raises(
        BadDevice, match=r"model_bs1\.om on chip 0: \[1\] the OM is missing, damaged, or made for another"
    ):
        opened(directory, 1)


def test_an_om_for_another_chip_is_refused_with_the_command_that_helps(
    directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(npu_smi={"names": ["310P1", "310P1"]})
    with pytest.raises(BadDevice, match="--soc-version Ascend310P1"):
        opened(directory, 1)


def test_a_chip_without_room_is_left_alone_and_both_figures_are_told(
    directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(npu_smi={"used_mb": [21530, 0]})
    with pytest.raises(DeviceFailed, match=r"need at least 15 MB, ascend:0 has 4 of 21534 MB free"):
        opened(directory, 1, 4)  # 3 and 12 MB of work memory, and small weights: what the stand-in's OMs say they take


def test_an_om_of_a_later_cann_is_refused(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host(acl={"cann_version": "7.0.0"})
    with pytest.raises(BadDevice, match="build it again for this chip and this CANN"):
        opened(directory, 1)


def test_a_size_that_no_om_has_is_refused(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host()
    with pytest.raises(BadSettings, match="no OM for batch size 16; there are 1, 2, 4, 8"):
        opened(directory, 16)


def test_a_gear_that_was_not_compiled_is_a_wrong_set_up(
    directory: ModelDirectory, atlas_host: Pretend, tmp_path: Path
) -> None:
    atlas_host()
    lying = directory.manifest.model_copy(
        update={
            "artefacts": tuple(
                a.model_copy(update={"compiled": a.compiled.model_copy(update={"gears": (4, 8)})})
                if a.file == "model_dyn.om" and a.compiled
                else a
                for a in directory.manifest.artefacts
                if a.file != "model_bs4.om"
            )
        }
    )
    with opened(ModelDirectory(directory.path, lying), 4) as embedder, pytest.raises(BadDevice, match=r"\[1\]"):
        embedder.embed(CROPS[:4])


def test_without_the_library_it_says_where_it_comes_from_and_how_to_do_without(
    directory: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(standins.SITE)])
    with pytest.raises(BadDevice, match=r"aclruntime is not installed.*set REID_VARIANT=onnx-fp32"):
        opened(directory, 1)


def test_without_the_driver_it_says_so(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host(acl=fault("import"))
    with pytest.raises(BadDevice, match=r"libascend_hal\.so.*driver's libraries are not here.*REID_VARIANT=onnx-fp32"):
        opened(directory, 1)
