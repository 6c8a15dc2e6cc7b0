"""What `reid doctor` says of an NPU, on hosts with and without one (stand-ins, not an NPU), and of a model's variants."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.adapters.memory import MemoryEmbedder
from app.adapters.model_directory import ModelDirectory
from app.cli.main import run
from app.cli.variants import measure
from app.ports import Crops, Floats

Pretend = Callable[..., None]
CHIP_0, CHIP_1 = (
    "ascend:0: Ascend310P3, health OK, 1074 of 21534 MB used",  # the guide's table
    "ascend:1: Ascend310P3, health OK, 1070 of 21534 MB used",
)


def npu(model: Path, tmp_path: Path, status: int = 0) -> tuple[bool, str]:
    """Whether the check passed, and what it found."""
    answer = tmp_path / "answer.json"
    assert run(["doctor", "--model", str(model), "--data", str(tmp_path / "none"), "--json", str(answer)]) == status
    checks: list[dict[str, Any]] = json.loads(answer.read_text(encoding="utf-8"))
    (check,) = [check for check in checks if check["name"] == "npu"]
    return check["passed"], check["found"]


def test_a_plain_server_has_none_and_is_sound(
    tiny_model_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert npu(tiny_model_directory, tmp_path) == (True, "none")
    assert "ok    npu: none\n" in capsys.readouterr().out


def test_where_oms_are_made_and_not_run_what_is_missing_is_said_and_is_no_fault(
    om_model_directory: Path, tmp_path: Path
) -> None:
    passed, found = npu(om_model_directory, tmp_path)
    assert passed
    assert found.startswith("npu-smi is not on the PATH: no Ascend driver is installed here")
    assert found.endswith("; aclruntime is not installed")


@pytest.mark.parametrize(("generation", "year"), [("new", "2024"), ("old", "2023")])
def test_chips_memory_and_generation_are_told_and_the_library_is_not_loaded(
    generation: str,
    year: str,
    atlas_host: Pretend,
    tiny_model_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without an OM it is the tool on the PATH that says there is something to look at."""
    monkeypatch.delitem(sys.modules, "aclruntime", raising=False)
    atlas_host(acl={"generation": generation})
    expected = "; ".join([CHIP_0, CHIP_1, f"aclruntime: the generation of {year}"])
    assert npu(tiny_model_directory, tmp_path) == (True, expected)
    assert "aclruntime" not in sys.modules


@pytest.mark.parametrize(("devices", "sound"), [("ascend:0", True), ("ascend:1", False)])
def test_a_chip_with_an_alarm_is_a_fault_where_it_is_to_serve(
    devices: str,
    sound: bool,
    atlas_host: Pretend,
    om_model_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    atlas_host(npu_smi={"layout": "unhealthy"})
    monkeypatch.setenv("REID_VARIANT", "om-fp16")
    monkeypatch.setenv("REID_DEVICES", devices)
    passed, found = npu(om_model_directory, tmp_path, status=0 if sound else 1)
    assert passed is sound
    assert "ascend:1: Ascend310P3, health Alarm" in found


@pytest.mark.parametrize(("variant", "sound"), [("onnx-fp32", True), ("om-fp16", False)])
def test_a_library_that_does_not_load_is_a_fault_where_oms_are_to_serve(
    variant: str,
    sound: bool,
    atlas_host: Pretend,
    om_model_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    atlas_host(acl={"faults": [{"at": "import"}]}, npu_smi={"layout": "none"})
    monkeypatch.setenv("REID_VARIANT", variant)
    passed, found = npu(om_model_directory, tmp_path, status=0 if sound else 1)
    assert passed is sound
    assert found.startswith("npu-smi info shows no chip (status 187)")
    assert "; aclruntime cannot be loaded (libascend_hal.so: cannot open shared object file" in found


def test_a_library_that_ends_its_process_does_not_end_ours(
    atlas_host: Pretend, tiny_model_directory: Path, tmp_path: Path
) -> None:
    atlas_host(acl={"faults": [{"at": "import", "kind": "death"}]})
    passed, found = npu(tiny_model_directory, tmp_path)
    assert passed
    assert found.endswith("; aclruntime ended the process that loaded it (status -9)")


def variants(model: Path, tmp_path: Path) -> dict[str, str]:
    """What is found of each variant."""
    answer = tmp_path / "variants.json"
    assert run(["doctor", "--model", str(model), "--data", str(tmp_path / "none"), "--json", str(answer)]) == 0
    checks: list[dict[str, Any]] = json.loads(answer.read_text(encoding="utf-8"))
    return {check["name"]: check["found"] for check in checks if check["name"].startswith("variant")}


def test_each_faster_variant_is_measured_here_and_its_cost_is_the_manifests(
    fast_model_directory: Path, tmp_path: Path
) -> None:
    found = variants(fast_model_directory, tmp_path)
    described = ModelDirectory.open(fast_model_directory).manifest
    assert set(found) == {f"variant {name}" for name in described.variants if name != "onnx-fp32"}
    agreement = described.variant("onnx-int8").agreement
    assert agreement is not None
    cost = f"rank-1 {agreement.change.rank1 * 100:+.1f} points, mAP {agreement.change.mAP * 100:+.1f} (20 queries, drawn people)"
    said = found["variant onnx-int8"]
    assert re.search(r"onnx-fp32 \(\d+ crops/s here just now", said)
    assert said.endswith(f"; against fp32 {cost}; REID_VARIANT=onnx-int8 serves it")


def test_where_fp32_is_the_only_variant_a_page_tells_of_others(tiny_model_directory: Path, tmp_path: Path) -> None:
    (said,) = variants(tiny_model_directory, tmp_path).values()
    assert said == "the only one; docs/model.md tells how faster ones for CPUs are made, and what they cost"


def test_an_om_is_not_measured_beside_a_cpu(om_model_directory: Path, tmp_path: Path) -> None:
    found = variants(om_model_directory, tmp_path)
    said = "not measured: it runs on an NPU; `python -m model_build bench` measures it there"
    assert found == {"variant om-fp16": said, "variant om-fp16-aipp": said}


class Told(MemoryEmbedder):
    """Takes as long for a batch as it was told, by the test's clock."""

    def __init__(self, clock: list[float], *seconds: float) -> None:
        self.clock, self.seconds = clock, list(seconds)

    def embed(self, crops: Crops) -> Floats:
        self.clock[0] += self.seconds.pop(0)
        return super().embed(crops)


def test_the_best_of_five_turns_counts_and_the_first_run_does_not() -> None:
    clock = [0.0]
    crops = np.zeros((3, 256, 128, 3), dtype=np.uint8)
    # Eight crops in 2 s and in 0.5 s at best; what a busy neighbour or a first allocation takes besides is left out.
    both = {"onnx-fp32": Told(clock, 9, 4, 2, 3, 5, 4), "onnx-int8": Told(clock, 0.1, 0.6, 0.8, 0.9, 0.7, 0.5)}
    assert measure(both, crops, lambda: clock[0]) == {"onnx-fp32": 4, "onnx-int8": 16}
