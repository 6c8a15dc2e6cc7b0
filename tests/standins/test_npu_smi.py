"""The `npu-smi` stand-in shows what the guide and public logs show."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import standins

# From the ModelZoo guide for centroids-reid, section 3.
GUIDE = """\
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


def npu_smi(*arguments: str, **switches: Any) -> subprocess.CompletedProcess[str]:
    environment = standins.environment(npu_smi=switches)
    return subprocess.run(["npu-smi", *arguments], env=environment, capture_output=True, text=True, check=False)


def test_the_default_table_is_the_guides_own() -> None:
    shown = npu_smi("info")
    assert (shown.stdout, shown.returncode) == (GUIDE, 0)


def test_chips_can_be_renamed_and_filled() -> None:
    table = npu_smi("info", names=["310P1", "910B3"], used_mb=[20000, 3]).stdout
    assert "| 0       310P1     | OK " in table
    assert "| 0            20000 / 21534 " in table
    assert "| 0            3    / 21534 " in table


def test_a_duo_is_one_card_with_two_chips_of_44_gb() -> None:
    lines = npu_smi("info", layout="duo").stdout.splitlines()
    chips = [line.split("|")[1].split() for line in lines if "310P3" in line]
    assert chips == [["1", "310P3"], ["1", "310P3"]]
    assert [line.split("|")[3].split()[1:] for line in lines if "0000:" in line] == [
        ["1448", "/", "44278"],
        ["1511", "/", "43693"],
    ]
    assert all(len(line) == len(lines[0]) for line in lines)


def test_the_newer_table_ends_with_the_processes() -> None:
    process = {"npu": 1, "chip": 0, "pid": 4711, "name": "python", "memory_mb": 512}
    table = npu_smi("info", layout="duo", processes=[process]).stdout
    assert "| 1       0                     | 4711            | python " in table
    assert "No running processes found in NPU 24 " in npu_smi("info", layout="single").stdout


@pytest.mark.parametrize(("layout", "word"), [("unhealthy", "| Alarm "), ("vnpu", "310P3vir04")])
def test_other_states_can_be_shown(layout: str, word: str) -> None:
    assert word in npu_smi("info", layout=layout).stdout


def test_the_map_counts_chips_through_and_shows_the_mcu_of_each_card() -> None:
    rows = [line.split() for line in npu_smi("info", "-m", layout="duo").stdout.splitlines()]
    assert rows[1:] == [["1", "0", "0", "Ascend", "310P3"], ["1", "1", "1", "Ascend", "310P3"], ["1", "2", "-", "Mcu"]]


def test_memory_health_and_usages_are_answered_for_a_chip_or_a_card() -> None:
    assert "DDR Capacity(MB)               : 44278" in npu_smi("info", "-t", "memory", "-i", "1", layout="duo").stdout
    health = npu_smi("info", "-t", "health", "-i", "1", "-c", "1", layout="unhealthy").stdout
    assert "Health Status                  : Alarm" in health
    usages = npu_smi("info", "-t", "usages", "-i", "1", "-c", "0", layout="duo").stdout
    assert "DDR Usage Rate(%)              : 3" in usages  # 1448 of 44278 MB
    assert "43693" not in usages


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-x"], "-x"),
        (["info", "-x"], "-x"),
        (["info", "-t"], "-t"),
        (["info", "-t", "memory", "-i", "9"], "-i"),
        ([], ""),
    ],
)
def test_what_it_does_not_know_it_refuses(arguments: list[str], named: str) -> None:
    refused = npu_smi(*arguments)
    assert refused.stdout.startswith(f"Error parameter of {named}")
    assert refused.returncode != 0


def test_a_kind_of_question_that_the_chip_does_not_answer_is_no_error() -> None:
    shown = npu_smi("info", "-t", "spod-info", "-i", "0")
    assert (shown.stdout, shown.returncode) == ("This device does not support querying spod-info.\n", 0)


@pytest.mark.parametrize("status", [187, 0])
def test_without_a_driver_it_says_so(status: int) -> None:
    shown = npu_smi("info", layout="none", status=status)
    assert "dcmi module initialize failed. ret is -8005" in shown.stdout
    assert shown.returncode == status


def test_it_runs_under_the_systems_own_python() -> None:
    if not Path("/usr/bin/python3").exists():
        pytest.skip("no /usr/bin/python3")
    environment = standins.environment(base={"PATH": "/usr/bin:/bin"})
    shown = subprocess.run(["npu-smi", "info"], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout == GUIDE
