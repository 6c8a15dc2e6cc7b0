"""What ATC's failures mean and what to do about them: a table, searched in what it printed.

Codes and texts: the ATC manual's list of errors, CANN's own message catalogue, and public logs; the first row that
is found counts, so a cause stands above what it leads to.
"""

import re
from dataclasses import dataclass

CODE = re.compile(r"^E[A-Z0-9]\d{4}:")  # E10001, EZ3003, EB0500, EC0010
QUOTED_LINES, QUOTED_LETTERS = 3, 500


@dataclass(frozen=True, slots=True)
class Cause:
    """`pattern` is looked for in each line that ATC printed; `advice` is what the user is told."""

    pattern: re.Pattern[str]
    advice: str


def _cause(pattern: str, advice: str) -> Cause:
    return Cause(re.compile(pattern, re.IGNORECASE), advice)


NO_MEMORY = (
    "the machine ran out of memory: atc needs a few GB; end other programs, or set TE_PARALLEL_COMPILER=1, so that fewer "
    "operators are compiled at once"
)
CAUSES = (
    _cause(
        r"libascend_hal\.so",
        "there is no Ascend driver on this machine; for compiling alone the toolkit's stub will do: "
        "export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$ASCEND_TOOLKIT_HOME/$(uname -m)-linux/devlib, in this shell only, since a "
        "server that finds the stub cannot use an NPU (ACL error 100039)",
    ),
    _cause(
        r"error while loading shared libraries|cannot open shared object file|ASCEND_OPP_PATH",
        "the toolkit's libraries are not found: source set_env.sh in this shell, the one of the toolkit that this atc is in",
    ),
    _cause(
        r"np\.float_|module 'numpy' has no attribute|numpy\.core\.multiarray failed|compiled using NumPy 1",
        "the operator compiler needs numpy below 2 in the python3 that comes first on the PATH: "
        "python3 -m pip install 'numpy<2', outside of any virtual environment of this project",
    ),
    _cause(
        r"E40002|python version",
        "this CANN does not work with the python3 that comes first on the PATH: put the one that it was installed with "
        "before it",
    ),
    _cause(
        r"EC0010|E40000|ModuleNotFoundError|No module named|Failed to import",
        "the operator compiler's own Python, the python3 that comes first on the PATH, lacks a package: python3 -m pip "
        "install attrs decorator sympy cffi pyyaml psutil scipy requests absl-py 'protobuf==3.20.*' 'numpy<2'",
    ),
    _cause(
        r"E[A-Z0-9]\d{4}:.*soc_?version",
        "this CANN does not know the chip: --soc-version is `Ascend` and the Name column of `npu-smi info`, such as "
        "Ascend310P3, and from CANN 8.5 the chip's operator package (Ascend-cann-310p-ops) must be installed too",
    ),
    _cause(
        r"E[A-Z0-9]\d{4}:.*precision_mode", "this CANN does not take the precision mode: leave --precision-mode out"
    ),
    _cause(r"E[A-Z0-9]\d{4}:.*aipp", "this CANN does not take the AIPP file: compile with --no-aipp"),
    _cause(
        r"EZ3002|EZ3003|EZ9010|EZ0501|E19010|E76002|No parser is registered|No supported Ops kernel",
        "this CANN has not got an operator of the graph for this chip: either the chip's operator package is not installed "
        "(Ascend-cann-310p-ops or Ascend-cann-kernels-310p, of the toolkit's own version), or the graph is not one that "
        "`export` wrote (opset 11)",
    ),
    _cause(r"No space left on device", "the disk is full"),
    _cause(r"out of memory|MemoryError|Cannot allocate memory|bad_alloc", NO_MEMORY),
    _cause(r"Permission denied", "atc may not write where it has to: its caches lie in the home folder and in /tmp"),
    _cause(r"unknown command ?line flag|unrecognized option", "this atc is too old for an option that it was given"),
    _cause(
        r"E100\d\d:|E11005",
        "this atc does not take what it was given; the command is the log's first line",
    ),
    _cause(
        r"EB0500",
        "the operator compiler failed, mostly for want of a package in the python3 that comes first on the PATH; "
        "run again with ASCEND_SLOG_PRINT_TO_STDOUT=1 to see its own words",
    ),
    _cause(
        r"EZ9999|E19999",
        "an inner error of CANN; run again with ASCEND_SLOG_PRINT_TO_STDOUT=1, or look into ~/ascend/log",
    ),
)
KILLED = (-9, 137)  # by the kernel when memory ran out; 137 is what a shell around atc makes of it


def explain(printed: str, status: int) -> str:
    """Advice and quotation, to follow the sentence that says what happened; empty where there is nothing to say."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    advice = next((cause.advice for cause in CAUSES if any(cause.pattern.search(line) for line in lines)), None)
    if advice is None and status in KILLED:
        advice = NO_MEMORY
    said = quote(lines)
    return (f": {advice}" if advice else "") + (f". atc says: {said}" if said else "")


def quote(lines: list[str]) -> str:
    """Its lines with a code, else its last ones, cut to what fits a sentence; not the greetings that it always prints."""
    coded = [line for line in lines if CODE.match(line)]
    others = [line for line in lines if line.strip(".") and not line.startswith("ATC ")]
    return " | ".join((coded or others[-QUOTED_LINES:])[:QUOTED_LINES])[:QUOTED_LETTERS].rstrip(". ")
