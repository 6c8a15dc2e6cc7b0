"""The `atc` stand-in takes and refuses what ATC takes and refuses, and prints it in ATC's form."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests import standins
from tests.standins import om, tiny

SUCCESS = "ATC run success, welcome to the next use."
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
Run = Callable[..., subprocess.CompletedProcess[str]]
ARGUMENTS = {
    "framework": "5",
    "model": "tiny.onnx",
    "output": "tiny",
    "input_format": "NCHW",
    "input_shape": "input:4,3,8,4",
    "soc_version": "Ascend310P3",
    "output_type": "FP32",
    "log": "error",
}


@pytest.fixture
def atc(tmp_path: Path) -> Run:
    """Runs it in a folder that holds tiny.onnx; `arguments` change the guide's, None leaves one out."""
    onnx.save(tiny.graph(), tmp_path / "tiny.onnx")

    def run(arguments: dict[str, str | None] | None = None, **switches: Any) -> subprocess.CompletedProcess[str]:
        environment = standins.environment(tmp_path, atc=switches)
        command = command_line(arguments or {})
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def command_line(changes: dict[str, str | None]) -> list[str]:
    merged: dict[str, str | None] = {**ARGUMENTS, **changes}
    return ["atc", *(f"--{name}={value}" for name, value in merged.items() if value is not None)]


def test_the_guides_command_writes_an_om_that_only_its_owner_reads(atc: Run, tmp_path: Path) -> None:
    done = atc()
    assert done.stdout.splitlines() == ["ATC start working now, please wait for a moment.", "...", SUCCESS]
    assert done.returncode == 0
    assert (tmp_path / "tiny.om").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "kernel_meta").is_dir()
    header, content = om.read(tmp_path / "tiny.om")
    assert (header.input_name, header.input_shape, header.dtype, header.layout) == (
        "input",
        [4, 3, 8, 4],
        "float32",
        "NCHW",
    )
    assert (header.output_name, header.output_shape) == ("Flatten_2:0:output", [4, 8])
    assert (header.soc_version, header.precision_mode) == ("Ascend310P3", "force_fp16")
    assert header.weight_size == 8 * 3 * 3 * 3 * 2  # values of the convolution, two bytes each
    assert content == (tmp_path / "tiny.onnx").read_bytes()


def test_gears_leave_the_batch_open(atc: Run, tmp_path: Path) -> None:
    assert atc({"input_shape": "input:-1,3,8,4", "dynamic_batch_size": "4,1,8"}).returncode == 0
    header, _ = om.read(tmp_path / "tiny.om")
    assert (header.input_shape, header.gears, header.largest_batch) == ([-1, 3, 8, 4], [1, 4, 8], 8)


def test_aipp_makes_the_input_uint8_nhwc(atc: Run, tmp_path: Path) -> None:
    (tmp_path / "aipp.cfg").write_text(tiny.aipp_text())
    assert atc({"insert_op_conf": "aipp.cfg"}).returncode == 0
    header, _ = om.read(tmp_path / "tiny.om")
    assert (header.input_shape, header.dtype, header.layout) == ([4, 8, 4, 3], "uint8", "NHWC")
    assert header.aipp is not None
    assert header.aipp["min_chn_0"] == "123.675"


REFUSALS: list[tuple[dict[str, str | None], str]] = [
    ({"made_up": "1"}, "E10001"),
    ({"framework": None}, "E10007"),
    ({"framework": "3"}, "E10007"),
    ({"model": None}, "E10054"),
    ({"model": "absent.onnx"}, "E10001"),
    ({"output": ""}, "E10054"),
    ({"soc_version": "310P3"}, "E10001"),
    ({"soc_version": None}, "E10001"),
    ({"input_shape": None}, "E11005"),
    ({"input_shape": "input"}, "E10002"),
    ({"input_shape": "input:4,3,8,x"}, "E10002"),
    ({"input_shape": "image:4,3,8,4"}, "E10001"),
    ({"input_shape": "input:4,3,8"}, "E10049"),
    ({"input_shape": "input:-1,3,8,4"}, "E10011"),
    ({"input_shape": "input:4,3,8,5"}, "E10001"),
    ({"precision_mode": "fp16"}, "E10001"),
    ({"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, "E10056"),
    ({"output_type": "FP8"}, "E10001"),
    ({"log": "loud"}, "E10010"),
    ({"dynamic_batch_size": "1,4"}, "E10031"),
    ({"input_shape": "input:-1,3,8,4", "dynamic_batch_size": "4"}, "E10035"),
    ({"input_shape": "input:-1,3,8,4", "dynamic_batch_size": "4,4"}, "E10039"),
    ({"input_shape": "input:-1,3,8,4", "dynamic_batch_size": "0,4"}, "E10038"),
    ({"input_shape": "input:-1,3,8,4", "dynamic_batch_size": "a"}, "E10014"),
    ({"input_shape": "input:-1,3,8,-1", "dynamic_batch_size": "1,4"}, "E10018"),
    ({"insert_op_conf": "absent.cfg"}, "E10001"),
]


@pytest.mark.parametrize(("changes", "code"), REFUSALS, ids=[f"{code} {changes}" for changes, code in REFUSALS])
def test_it_refuses_by_code(changes: dict[str, str | None], code: str, atc: Run, tmp_path: Path) -> None:
    refused = atc(changes)
    lines = refused.stdout.splitlines()
    assert FAILURE in lines
    assert lines[lines.index(FAILURE) + 1].startswith(f"{code}: ")
    assert refused.returncode == 255
    assert not (tmp_path / "tiny.om").exists()


def test_a_fixed_graph_takes_its_own_batch_and_no_gears(atc: Run, tmp_path: Path) -> None:
    onnx.save(tiny.graph(batch=4), tmp_path / "tiny.onnx")
    assert atc().returncode == 0
    assert "E10001" in atc({"input_shape": "input:8,3,8,4"}).stdout
    assert "E10001" in atc({"input_shape": "input:-1,3,8,4", "dynamic_batch_size": "1,4"}).stdout


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x08\x12\x07pytorch"], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_graph_is_refused(content: bytes, atc: Run, tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(content)
    assert "E10041" in atc().stdout


def test_an_opset_later_than_it_parses_is_refused(atc: Run, tmp_path: Path) -> None:
    onnx.save(tiny.graph(opset=19), tmp_path / "tiny.onnx")
    assert "E19010: No parser is registered for Op" in atc().stdout


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("aipp_op {", "aipp {", "E10001"),
        ("aipp_mode: static", "aipp_mode = static", "E10001"),
        ("crop: false", "crop: maybe", "E10001"),
        ("crop: false", "crop: false crop_size_w: 4", "E10001"),
        ("crop: false", "csc_swich: false", "E10001"),
        ("RGB888_U8", "RGB", "E10001"),
        ("min_chn_0: 123.675", "min_chn_0: 256", "E10052"),
        ("min_chn_0: 123.675", "mean_chn_0: 123.675", "E10001"),
        ("min_chn_0: 123.675", "mean_chn_0: 300", "E10052"),
        ("var_reci_chn_0: ", "var_reci_chn_0: -", "E10052"),
        ("src_image_size_w: 4", "src_image_size_w: 8", "E10052"),
    ],
)
def test_an_aipp_file_must_parse_and_fit(old: str, new: str, code: str, atc: Run, tmp_path: Path) -> None:
    assert old in tiny.aipp_text()
    (tmp_path / "aipp.cfg").write_text(tiny.aipp_text().replace(old, new))
    assert f"\n{code}: " in atc({"insert_op_conf": "aipp.cfg"}).stdout


@pytest.mark.parametrize(
    ("missing", "status", "text"),
    [("ASCEND_TOOLKIT_HOME", 127, "error while loading shared libraries"), ("ASCEND_OPP_PATH", 255, "E10501: ")],
)
def test_it_does_not_work_before_set_env_sh(missing: str, status: int, text: str, atc: Run, tmp_path: Path) -> None:
    environment = standins.environment(tmp_path)
    del environment[missing]
    refused = subprocess.run(
        command_line({}), env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode == status
    assert text in refused.stdout + refused.stderr


def test_without_a_driver_it_needs_the_toolkits_devlib(atc: Run, tmp_path: Path) -> None:
    refused = atc(needs_driver=True)
    assert "libascend_hal.so: cannot open shared object file" in refused.stderr
    environment = standins.environment(tmp_path, atc={"needs_driver": True})
    environment["LD_LIBRARY_PATH"] += ":/usr/local/Ascend/ascend-toolkit/latest/x86_64-linux/devlib"
    subprocess.run(command_line({}), env=environment, cwd=tmp_path, check=True, capture_output=True)


def test_a_numpy_of_two_or_later_breaks_the_operator_compiler(atc: Run, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    (packages / "numpy").mkdir(parents=True)
    for version, status in (("2.0.1", 255), ("1.24.4", 0)):
        (packages / "numpy" / "__init__.py").write_text(f"__version__ = {version!r}\n")
        environment = standins.environment(tmp_path, atc={"check_numpy": True})
        environment |= {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command_line({}), env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == status
        assert ("EB0500: " in done.stdout) == (status == 255)


@pytest.mark.parametrize(
    ("mode", "status", "success", "size"),
    [
        ("silent-failure", 0, False, None),
        ("no-file", 0, True, None),
        ("empty-file", 0, True, 0),
        ("fail", 255, False, None),
    ],
)
def test_it_can_fail_in_other_ways(
    mode: str, status: int, success: bool, size: int | None, atc: Run, tmp_path: Path
) -> None:
    done = atc(mode=mode)
    made = tmp_path / "tiny.om"
    assert (done.returncode, SUCCESS in done.stdout) == (status, success)
    assert (made.stat().st_size if made.exists() else None) == size


def test_it_can_leave_half_an_om(atc: Run, tmp_path: Path) -> None:
    atc()
    whole = (tmp_path / "tiny.om").stat().st_size
    assert atc(mode="partial-file").returncode == 255
    assert (tmp_path / "tiny.om").stat().st_size == whole // 2


def test_an_error_can_be_scripted_for_once(atc: Run, tmp_path: Path) -> None:
    switches = {"error": "EZ9999: Inner Error!", "marker": str(tmp_path / "happened")}
    assert "\nEZ9999: Inner Error!\n" in atc(**switches).stdout
    assert atc(**switches).returncode == 0


def test_it_can_hang_with_a_child_at_work(atc: Run, tmp_path: Path) -> None:
    environment = standins.environment(tmp_path, atc={"mode": "hang", "children": True})
    child = tmp_path / "kernel_meta" / "child.pid"
    process = subprocess.Popen(
        command_line({}), env=environment, cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        while not (child.exists() and child.read_text()):
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(int(child.read_text()), 0)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_an_om_can_be_read_back_as_json(atc: Run, tmp_path: Path) -> None:
    atc()
    environment = standins.environment(tmp_path)
    command = ["atc", "--mode=1", "--om=tiny.om", "--json=tiny.json"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert SUCCESS in done.stdout
    attributes = json.loads((tmp_path / "tiny.json").read_text())["attr"]
    values = {attribute["key"]: attribute["value"] for attribute in attributes}
    assert values["soc_version"] == {"s": "Ascend310P3"}
    assert values["atc_version"] == {"s": "8.1.RC1"}
    assert values["weight_size"] == {"i": 432}
    assert values["attr_model_out_nodes_name"] == {"list": {"s": ["Flatten_2:0:output"]}}
    assert "--input_shape=input:4,3,8,4" in values["atc_cmdline"]["s"]


def test_every_call_can_be_put_on_record(atc: Run, tmp_path: Path) -> None:
    atc(calls=str(tmp_path / "calls"))
    atc({"framework": None}, calls=str(tmp_path / "calls"))
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert [("--framework=5" in call["argv"], call["cwd"]) for call in calls] == [
        (True, str(tmp_path)),
        (False, str(tmp_path)),
    ]
    assert calls[0]["environment"]["ASCEND_OPP_PATH"] == f"{tmp_path}/ascend-toolkit/latest/opp"


def test_it_runs_under_the_systems_own_python(atc: Run, tmp_path: Path) -> None:
    if not Path("/usr/bin/python3").exists():
        pytest.skip("no /usr/bin/python3")
    environment = standins.environment(tmp_path, base={"PATH": "/usr/bin:/bin"})
    subprocess.run(command_line({}), env=environment, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "tiny.om").exists()
