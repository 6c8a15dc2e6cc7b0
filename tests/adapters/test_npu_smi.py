"""What `npu-smi info` prints, read. The newer tables have the form of public logs (drivers 24.1 to 25.5), numbers changed."""

import json
from pathlib import Path

import pytest

from app.adapters.ascend.npu_smi import Chip, chips, parse
from app.errors import BadDevice
from tests import standins

GUIDE = """
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 15.8         42                0    / 0              |
| 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |
+===================+=================+======================================================+
| 1       310P3     | OK              | 15.4         43                0    / 0              |
| 0       1         | 0000:89:00.0    | 0            1070 / 21534                            |
+===================+=================+======================================================+
"""
DUO = """
+--------------------------------------------------------------------------------------------------------+
| npu-smi 25.2.0                                   Version: 25.2.0                                       |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 2       310P3                 | OK              | NA           45                18047 / 18047         |
| 0       0                     | 0000:01:00.0    | 0            37623/ 44280                            |
+-------------------------------+-----------------+------------------------------------------------------+
| 2       310P3                 | Alarm           | NA           43                0     / 0             |
| 1       1                     | NA              | 0            NA   / NA                               |
+===============================+=================+======================================================+
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Chip                  | Process id      | Process name             | Process memory(MB)        |
+===============================+=================+======================================================+
| 2       0                     | 4711            | python3                  | 36100                     |
| 2       1                     | 4712            | python3                  | 12                        |
+===============================+=================+======================================================+
"""
HBM = """
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 7     910B4               | OK            | 88.2        30                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          26838/ 32768         |
+===========================+===============+====================================================+
"""


def standin(folder: Path, **switches: object) -> str:
    """A program that is the stand-in with these switches."""
    program = folder / "npu-smi"
    program.write_text(f"#!/bin/sh\nSTANDIN_NPU_SMI='{json.dumps(switches)}' exec {standins.BIN}/npu-smi \"$@\"\n")
    program.chmod(0o755)
    return str(program)


def test_the_guides_table_shows_two_cards_of_one_chip() -> None:
    assert parse(GUIDE) == (
        Chip(0, 0, 0, "310P3", "OK", 1074, 21534, "0000:82:00.0"),
        Chip(1, 0, 1, "310P3", "OK", 1070, 21534, "0000:89:00.0"),
    )


def test_a_duo_is_one_card_of_two_chips_and_what_is_not_told_is_none() -> None:
    assert parse(DUO) == (
        Chip(2, 0, 0, "310P3", "OK", 37623, 44280, "0000:01:00.0"),
        Chip(2, 1, 1, "310P3", "Alarm", None, None, None),
    )


def test_memory_is_the_last_pair_and_the_device_may_have_no_column() -> None:
    assert parse(HBM) == (Chip(7, 0, None, "910B4", "OK", 26838, 32768, "0000:C1:00.0"),)


@pytest.mark.parametrize(
    ("name", "soc"),
    [("310P3", "Ascend310P3"), ("Ascend910", "Ascend910"), ("310P3vir04", "Ascend310P3")],
)
def test_the_chips_name_for_atc(name: str, soc: str) -> None:
    assert Chip(0, 0, 0, name, "OK", None, None, None).soc_version == soc


@pytest.mark.parametrize("text", ["", "dcmi module initialize failed. ret is -8005", DUO.split("====+\n+---")[1]])
def test_a_text_without_the_table_shows_no_chip(text: str) -> None:
    assert parse(text) == ()


@pytest.mark.parametrize(
    ("layout", "devices"), [("guide", [0, 1]), ("duo", [0, 1]), ("single", [0]), ("unhealthy", [0, 1]), ("vnpu", [0])]
)
def test_the_tool_is_run_and_read(layout: str, devices: list[int], tmp_path: Path) -> None:
    busy = [{"npu": 1, "chip": 0, "pid": 4711, "name": "python3", "memory_mb": 900}]
    found = chips(standin(tmp_path, layout=layout, processes=busy))
    assert [chip.device for chip in found] == devices
    assert {chip.soc_version for chip in found} == {"Ascend310P3"}
    assert all(chip.memory_total_mb and chip.memory_used_mb for chip in found)


def test_without_a_driver_the_tools_own_words_are_quoted(tmp_path: Path) -> None:
    with pytest.raises(BadDevice, match=r"shows no chip \(status 187\); it says: .*initialize failed. ret is -8005"):
        chips(standin(tmp_path, layout="none"))


def test_a_tool_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(BadDevice, match=r"gave no answer in 0\.2 s"):
        chips(standin(tmp_path, seconds=60), timeout_s=0.2)


def test_a_missing_tool_and_one_that_cannot_be_started_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadDevice, match="npu-smi is not on the PATH: no Ascend driver is installed here"):
        chips(str(tmp_path / "npu-smi"))
    (tmp_path / "npu-smi").write_text("#!/no/such/shell\n")
    (tmp_path / "npu-smi").chmod(0o755)
    with pytest.raises(BadDevice, match="cannot be started: No such file"):
        chips(str(tmp_path / "npu-smi"))
