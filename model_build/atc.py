"""Run ATC: one graph in, one OM out, or a sentence that says why not and what to do.

Success is status 0 **and** the line of success **and** a new OM that is not empty: the manual promises no status, and
Huawei's own tools look at one or the other.
"""

import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.errors import CompileFailed
from model_build.atc_failures import explain
from model_build.toolkit import Toolkit

SUCCESS = "ATC run success"
BEAT_S = 1.0  # how often a silent ATC is heard of
MERCY_S = 5.0  # between the signal that asks and the one that ends
TAIL_BYTES = 2**20  # of the log, where the lines stand that decide
FACTS_TIMEOUT_S = 300

Beat = Callable[[float, str], None]  # seconds since the start, and ATC's latest line; at least every BEAT_S


def _unheard(_elapsed_s: float, _line: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Command:
    """One call of ATC. `shape` is [n, 3, height, width] of the input; n is -1 where `gears` name the batch sizes.

    Options are the guide's and no more, since that command line is known to have compiled this network. --output_type is
    left out: its default is the graph's own float32, and the server checks it. --log only adds to what goes to files.
    """

    model: str
    output: str  # without the .om that ATC appends
    input_name: str
    shape: tuple[int, int, int, int]
    soc_version: str
    gears: tuple[int, ...] = ()
    precision_mode: str | None = None  # None: not said, so ATC's own default
    aipp: str | None = None

    def arguments(self) -> list[str]:
        """What follows `atc`, in the guide's order."""
        arguments = [
            "--framework=5",  # ONNX
            f"--model={self.model}",
            f"--output={self.output}",
            f"--input_shape={self.input_name}:{_listed(self.shape)}",
            "--input_format=NCHW",
            f"--soc_version={self.soc_version}",
        ]
        if self.gears:
            arguments.append(f"--dynamic_batch_size={_listed(self.gears)}")
        if self.precision_mode is not None:
            arguments.append(f"--precision_mode={self.precision_mode}")
        if self.aipp is not None:
            arguments.append(f"--insert_op_conf={self.aipp}")
        return arguments


@dataclass(frozen=True, slots=True)
class OmFacts:
    """What an OM says of itself; None for what it does not."""

    soc_version: str | None = None
    cann_version: str | None = None
    weight_bytes: int | None = None
    work_bytes: int | None = None


def run_atc(
    command: Command, folder: Path, toolkit: Toolkit, log: Path, timeout_s: float, beat: Beat = _unheard
) -> Path:
    """The new OM, readable by others than its maker. Raises CompileFailed; the log stays either way.

    ATC works in `folder`, a private one, where its files lie and where it leaves kernel_meta/ and more. Nothing of it
    runs any longer afterwards, whatever happened, Ctrl-C included.
    """
    for left in _written(command, folder):
        left.unlink()  # an OM that lies there already would prove nothing
    with log.open("w+b") as file:
        file.write(f"$ {' '.join(['atc', *command.arguments()])}\n".encode())
        file.flush()
        begin = file.tell()
        status = _run(command, folder, toolkit, file, timeout_s, beat)
        file.seek(max(begin, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        printed = file.read().decode(errors="replace")
    made = [om for om in _written(command, folder) if om.stat().st_size > 0]
    if status is None:
        happened = f"atc was not done after {timeout_s / 60:g} minutes and was ended; --timeout-minutes gives it longer"
    elif status != 0:
        happened = f"atc ended with status {status}"
    elif SUCCESS not in printed:
        happened = "atc ended with status 0, but without its line of success"
    elif not made:
        happened = "atc reports success, but wrote no OM or an empty one"
    else:
        made[0].chmod(0o644)  # ATC makes it readable by its maker alone, and the server is mostly another user
        return made[0]
    raise CompileFailed(f"{command.output}.om: {happened}{explain(printed, status or 0)}. The whole log: {log}")


def read_facts(om: Path, toolkit: Toolkit) -> OmFacts:
    """Asks ATC to print the OM as JSON. What cannot be read is None; that is no reason to refuse a good OM."""
    try:
        subprocess.run(
            [toolkit.atc, "--mode=1", f"--om={om.name}", "--json=om.json"],
            cwd=om.parent,
            env=dict(toolkit.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=FACTS_TIMEOUT_S,
            check=True,
        )
        content = json.loads((om.parent / "om.json").read_bytes())
        values = {entry["key"]: entry["value"] for entry in content["attr"]}
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return OmFacts()
    return OmFacts(
        soc_version=_text(values.get("soc_version")),
        cann_version=_text(values.get("atc_version")),
        weight_bytes=_number(values.get("weight_size")),
        work_bytes=_number(values.get("memory_size")),
    )


def _run(command: Command, folder: Path, toolkit: Toolkit, log: BinaryIO, timeout_s: float, beat: Beat) -> int | None:
    """The exit status, None where the time ran out. A session of its own, so that its children end with it."""
    try:
        process = subprocess.Popen(
            [toolkit.atc, *command.arguments()],
            cwd=folder,
            env=dict(toolkit.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise CompileFailed(f"{toolkit.atc} cannot be started: {error.strerror or error}") from error
    with process:
        try:
            return _follow(process, log, time.monotonic(), timeout_s, beat)
        finally:
            _end(process)


def _follow(
    process: "subprocess.Popen[bytes]", log: BinaryIO, started: float, timeout_s: float, beat: Beat
) -> int | None:
    assert process.stdout is not None  # a pipe was asked for
    output, pending, latest, open_ = process.stdout.fileno(), b"", "", True
    while (elapsed := time.monotonic() - started) < timeout_s:
        beat(elapsed, latest)
        wait_s = min(BEAT_S, timeout_s - elapsed)
        if not open_:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(wait_s)
        elif select.select([output], [], [], wait_s)[0]:
            chunk = os.read(output, 2**16)
            open_ = bool(chunk)
            log.write(chunk)
            log.flush()  # whoever watches the file sees the line at once
            *lines, pending = re.split(rb"[\r\n]+", pending + chunk)
            latest = next((text for line in reversed(lines) if (text := line.decode(errors="replace").strip())), latest)
        elif process.poll() is not None:  # it has ended, and a child of it holds the pipe open
            return process.returncode
    return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of ATC and its children."""
    for number, patience_s in ((signal.SIGTERM, MERCY_S), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)


def _written(command: Command, folder: Path) -> list[Path]:
    """ATC appends .om; where it takes a graph for a dynamic one, system and machine before that, as public logs show."""
    named = folder.glob(f"{command.output}_linux_*.om")
    return [path for path in (folder / f"{command.output}.om", *sorted(named)) if path.exists()]


def _text(value: object) -> str | None:
    text = value.get("s") if isinstance(value, dict) else None
    return text if isinstance(text, str) and text else None


def _number(value: object) -> int | None:
    number = value.get("i") if isinstance(value, dict) else None
    return int(number) if isinstance(number, int | str) and str(number).isdecimal() else None


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))
