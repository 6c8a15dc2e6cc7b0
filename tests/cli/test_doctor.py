"""What `reid doctor` says of an NPU, on hosts with and without one. Verified with stand-ins, not on an NPU."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import run

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
