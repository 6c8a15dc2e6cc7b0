"""The `npu-smi` stand-in: `info`, `info -m`, `info -l` and `info -t memory|health|usages -i NPU [-c CHIP]`.

The default table is the ModelZoo guide's own, to the letter: two single-chip cards under driver 22.0.2. The others have
the form that public logs show for drivers 24 and 25, which add a version line and a table of processes. Standard library
only. Refusals follow npu-smi's public source: "Error parameter of -x", and "This device does not support querying x.".

STANDIN_NPU_SMI is a JSON object; every key is optional:
    layout     guide · duo (one card, two chips of about 44 GB) · single (one card, newer layout) · unhealthy (a duo
               whose second chip has an alarm) · vnpu (a slice of a chip; how its Name reads is a guess) · none (no driver)
    names      chip names, one a chip (310P3)
    used_mb    used memory, one a chip; total_mb likewise
    processes  [{"npu", "chip", "pid", "name", "memory_mb"}], in the newer layouts
    status     exit status of layout none; 187 is -8005 modulo 256, the real one is not known
    seconds    how long it takes to answer
"""

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DRIVER = "25.2.0"
NO_DRIVER = "DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8005"


@dataclass(frozen=True)
class Chip:
    """A row of two lines."""

    npu: int
    chip: int
    device: int
    bus: str
    name: str = "310P3"
    health: str = "OK"
    power: str = "NA"
    celsius: int = 49
    used_mb: int = 1448
    total_mb: int = 44278


GUIDE = [
    Chip(0, 0, 0, "0000:82:00.0", power="15.8", celsius=42, used_mb=1074, total_mb=21534),
    Chip(1, 0, 1, "0000:89:00.0", power="15.4", celsius=43, used_mb=1070, total_mb=21534),
]
DUO = [Chip(1, 0, 0, "0000:01:00.0"), Chip(1, 1, 1, "0000:01:00.0", celsius=45, used_mb=1511, total_mb=43693)]
LAYOUTS: dict[str, list[Chip]] = {
    "guide": GUIDE,
    "duo": DUO,
    "single": [Chip(24, 0, 0, "0000:04:00.0", celsius=29, used_mb=1832, total_mb=21527)],
    "unhealthy": [DUO[0], dataclasses.replace(DUO[1], health="Alarm")],
    "vnpu": [Chip(0, 0, 0, "0000:01:00.0", name="310P3vir04", used_mb=402, total_mb=10767)],
    "none": [],
}


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    switches: dict[str, Any] = json.loads(os.environ.get("STANDIN_NPU_SMI", "{}"))
    time.sleep(switches.get("seconds", 0))
    if switches.get("layout") == "none":
        print(NO_DRIVER)
        return int(switches.get("status", 187))
    chips = _chips(switches)
    if not arguments or arguments[0] != "info":
        print("Error parameter of " + (arguments[0] if arguments else "npu-smi"))
        return 255
    if len(arguments) == 1:
        print(_table(chips, switches))
        return 0
    if list(arguments[1:]) in (["-m"], ["-l"]):
        print(_map(chips) if arguments[1] == "-m" else _cards(chips))
        return 0
    return _query(chips, arguments[1:])


def _chips(switches: dict[str, Any]) -> list[Chip]:
    chips = LAYOUTS[switches.get("layout", "guide")]
    for key, field in (("names", "name"), ("used_mb", "used_mb"), ("total_mb", "total_mb")):
        values = switches.get(key, [getattr(chip, field) for chip in chips])
        chips = [dataclasses.replace(chip, **{field: value}) for chip, value in zip(chips, values, strict=True)]
    return chips


def _table(chips: list[Chip], switches: dict[str, Any]) -> str:
    newer = switches.get("layout", "guide") != "guide"
    widths = (31, 17, 54) if newer else (19, 17, 54)
    thin, thick = (_rule(widths, mark) for mark in "-=")
    lines = [thin]
    if newer:
        title = f" npu-smi {DRIVER:<40} Version: {DRIVER}"
        lines = ["+" + "-" * (sum(widths) + 2) + "+", "|" + title.ljust(sum(widths) + 2) + "|", thin]
    lines.append(_row(widths, "NPU     Name", "Health", "Power(W)     Temp(C)           Hugepages-Usage(page)"))
    lines += [_row(widths, "Chip    Device", "Bus-Id", "AICore(%)    Memory-Usage(MB)"), thick]
    for index, chip in enumerate(chips):
        pages = "0     / 0" if newer else "0    / 0"
        figures = f"{chip.power:<12} {chip.celsius:<17} {pages}"
        lines.append(_row(widths, f"{chip.npu:<7} {chip.name}", chip.health, figures))
        memory = f"{0:<12} {chip.used_mb:<4} / {chip.total_mb}"
        lines.append(_row(widths, f"{chip.chip:<7} {chip.device}", chip.bus, memory))
        # Chips of one card are parted by a thin rule, cards by a thick one.
        same_card = index + 1 < len(chips) and chips[index + 1].npu == chip.npu
        lines.append(thin if same_card else thick)
    return "\n".join(lines + (_processes(chips, switches, widths) if newer else []))


def _processes(chips: list[Chip], switches: dict[str, Any], widths: tuple[int, ...]) -> list[str]:
    widths = (31, 17, 26, 27)
    thin, thick = _rule((31, 17, 54), "-"), _rule((31, 17, 54), "=")
    head = _row(widths, "NPU     Chip", "Process id", "Process name", "Process memory(MB)")
    lines = [thin, head, thick]
    processes: list[dict[str, Any]] = switches.get("processes", [])
    for npu in sorted({chip.npu for chip in chips}):
        mine = [process for process in processes if process["npu"] == npu]
        for process in mine:
            where, pid, memory = f"{npu:<7} {process['chip']}", str(process["pid"]), str(process["memory_mb"])
            lines.append(_row(widths, where, pid, process["name"], memory))
        if not mine:
            lines.append("|" + f" No running processes found in NPU {npu}".ljust(104) + "|")
        lines.append(thick)
    return lines


def _rule(widths: Sequence[int], mark: str) -> str:
    return "+" + "+".join(mark * width for width in widths) + "+"


def _row(widths: Sequence[int], *cells: str) -> str:
    return "|" + "|".join((" " + cell).ljust(width) for width, cell in zip(widths, cells, strict=True)) + "|"


def _map(chips: list[Chip]) -> str:
    """Every card ends with its Mcu, which is no chip."""
    rows = [("NPU ID", "Chip ID", "Chip Logic ID", "Chip Name")]
    for npu in sorted({chip.npu for chip in chips}):
        mine = [chip for chip in chips if chip.npu == npu]
        rows += [(str(npu), str(chip.chip), str(chip.device), f"Ascend {chip.name}") for chip in mine]
        rows.append((str(npu), str(len(mine)), "-", "Mcu"))
    return "\n".join("\t" + " ".join(cell.ljust(30) for cell in row) for row in rows)


def _cards(chips: list[Chip]) -> str:
    npus = sorted({chip.npu for chip in chips})
    counts = [sum(chip.npu == npu for chip in chips) for npu in npus]
    blocks = [[("NPU ID", npu), ("Chip Count", count)] for npu, count in zip(npus, counts, strict=True)]
    return "\n\n".join([_facts([("Total Count", len(npus))]), *(_facts(block) for block in blocks)])


def _query(chips: list[Chip], arguments: Sequence[str]) -> int:
    asked = dict(zip(arguments[::2], arguments[1::2], strict=False))  # a last option may lack its value
    unknown = [name for name in arguments[::2] if name not in {"-t", "-i", "-c"}]
    if unknown or len(arguments) % 2:
        print(f"Error parameter of {unknown[0] if unknown else arguments[-1]}")
        return 255
    npu = [chip for chip in chips if str(chip.npu) == asked.get("-i")]
    mine = [chip for chip in npu if asked.get("-c", str(chip.chip)) == str(chip.chip)]
    if not mine:
        print("Error parameter of " + ("-c" if npu else "-i"))
        return 255
    kind = asked.get("-t", "")
    if kind not in {"memory", "health", "usages"}:
        print(f"This device does not support querying {kind}.")
        return 0
    blocks = [_facts([*_of(kind, chip), ("Chip ID", chip.chip)]) for chip in mine]
    if kind != "health":
        blocks.insert(0, _facts([("NPU ID", mine[0].npu), ("Chip Count", len(npu))]))
    print("\n\n".join(blocks))
    return 0


def _of(kind: str, chip: Chip) -> list[tuple[str, object]]:
    if kind == "health":
        return [("Health Status", chip.health)]
    if kind == "memory":
        return [("DDR Capacity(MB)", chip.total_mb), ("DDR Clock Speed(MHz)", 4266)]
    shares = ("DDR Hugepages Total(page)", "DDR Hugepages Usage Rate(%)", "Aicore Usage Rate(%)", "Aicpu Usage Rate(%)")
    used = 100 * chip.used_mb // chip.total_mb
    return [("DDR Capacity(MB)", chip.total_mb), ("DDR Usage Rate(%)", used), *((share, 0) for share in shares)]


def _facts(pairs: Sequence[tuple[str, object]]) -> str:
    return "\n".join(f"\t{name:<30} : {value}" for name, value in pairs)
