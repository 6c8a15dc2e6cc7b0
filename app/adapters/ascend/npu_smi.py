"""Huawei's `npu-smi info`, read: which chips this machine shows, how they are and what memory they have.

    +-------------------+-----------------+------------------------------------------------------+
    | NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
    | Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
    +===================+=================+======================================================+
    | 0       310P3     | OK              | 15.8         42                0    / 0              |
    | 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |

Two lines a chip; a card with two chips repeats its NPU number. Columns are told by their bars, never by their width, which
changes with the driver; what stands as NA or - is None. Below may follow a table of processes, which is not read.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from app.errors import BadDevice

TIMEOUT_S = 60  # it answers within seconds; with a driver in trouble it may never


@dataclass(frozen=True, slots=True)
class Chip:
    """One chip. `device` is the N of /dev/davinciN, where the table has it; `name` is as shown, such as 310P3."""

    npu: int
    chip: int
    device: int | None
    name: str
    health: str
    memory_used_mb: int | None
    memory_total_mb: int | None
    bus_id: str | None

    def __str__(self) -> str:
        """For people, such as `ascend:0: Ascend310P3, health OK, 1074 of 21534 MB used`."""
        name = f"NPU {self.npu} chip {self.chip}" if self.device is None else f"ascend:{self.device}"
        used, total = ("?" if mb is None else mb for mb in (self.memory_used_mb, self.memory_total_mb))
        return f"{name}: {self.soc_version}, health {self.health}, {used} of {total} MB used"

    @property
    def soc_version(self) -> str:
        """The name that ATC knows it by, such as Ascend310P3; a slice of a chip runs what the chip runs."""
        name = re.sub(r"vir\d+\w*$", "", self.name)
        return name if name.startswith("Ascend") else f"Ascend{name}"


def chips(program: str = "npu-smi", timeout_s: float = TIMEOUT_S) -> tuple[Chip, ...]:
    """The chips that this process may see, in the tool's order. Raises BadDevice, also where there are none."""
    path = shutil.which(program)
    if path is None:
        raise BadDevice(
            "npu-smi is not on the PATH: no Ascend driver is installed here, or the container was not given the host's "
            "/usr/local/bin/npu-smi"
        )
    try:
        done = subprocess.run(
            [path, "info"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadDevice(f"npu-smi info gave no answer in {timeout_s:g} s: the driver or a chip hangs") from error
    except OSError as error:
        raise BadDevice(f"npu-smi cannot be started: {error.strerror or error}") from error
    text = done.stdout.decode(errors="replace")
    found = parse(text)
    if done.returncode != 0 or not found:
        said = " ".join(text.split())[:300] or "nothing"
        raise BadDevice(f"npu-smi info shows no chip (status {done.returncode}); it says: {said}")
    return found


def parse(text: str) -> tuple[Chip, ...]:
    """The chips of the table; none where the text holds no such table."""
    return tuple(_chip(first, second) for first, second in pairwise(_rows(text)) if _begins(first) and _goes_on(second))


def _rows(text: str) -> Iterator[list[list[str]]]:
    """Lines of the first table, each as its cells, each cell as its words. A line of bars alone ends nothing."""
    for line in text.splitlines():
        if re.search(r"Process\s+(id|name)", line, re.IGNORECASE):
            return
        if line.strip().startswith("|"):
            yield [cell.split() for cell in line.strip().strip("|").split("|")]


def _begins(row: list[list[str]]) -> bool:
    """| 0       310P3     | OK              | ... : a number and a name, then one word that is no bus address."""
    return len(row) >= 3 and len(row[0]) == 2 and row[0][0].isdecimal() and len(row[1]) == 1 and ":" not in row[1][0]


def _goes_on(row: list[list[str]]) -> bool:
    """| 0       0         | 0000:82:00.0    | ... : the chip's number, with or without a device number, then the bus."""
    numbers = len(row) >= 3 and 1 <= len(row[0]) <= 2 and row[0][0].isdecimal()
    return numbers and len(row[1]) == 1 and (":" in row[1][0] or _value(row[1][0]) is None)


def _chip(first: list[list[str]], second: list[list[str]]) -> Chip:
    used, total = _memory(second[2])
    return Chip(
        npu=int(first[0][0]),
        chip=int(second[0][0]),
        device=_number(second[0][1]) if len(second[0]) == 2 else None,
        name=first[0][1],
        health=first[1][0],
        memory_used_mb=used,
        memory_total_mb=total,
        bus_id=_value(second[1][0]),
    )


def _memory(words: list[str]) -> tuple[int | None, int | None]:
    """The last `used / total` of the cell: chips with HBM show it behind a DDR that is 0 / 0."""
    pairs = re.findall(r"([^\s/]+) ?/ ?([^\s/]+)", " ".join(words))
    return (_number(pairs[-1][0]), _number(pairs[-1][1])) if pairs else (None, None)


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else None


def _value(word: str) -> str | None:
    return None if word.upper() in ("NA", "N/A", "-", "--") else word
