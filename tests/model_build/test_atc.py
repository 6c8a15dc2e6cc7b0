"""ATC called, watched and understood: against the stand-in of tests/standins, not the real one."""

import json
import os
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from app.errors import CompileFailed
from model_build.atc import Command, OmFacts, read_facts, run_atc
from model_build.atc_failures import CAUSES, Cause, explain
from model_build.toolkit import Toolkit, cleaned, find_toolkit
from tests import standins

VENV = Path(__file__).parents[2] / ".venv"
COMMAND = Command(
    model="model_bs4.onnx",
    output="model_bs4",
    input_name="input",
    shape=(4, 3, 256, 128),
    soc_version="Ascend310P3",
)


@pytest.fixture
def folder(tiny_model_directory: Path, tmp_path: Path) -> Path:
    """A private folder with the graph in it."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("model.onnx", "model_bs4.onnx"):
        (work / name).write_bytes((tiny_model_directory / name).read_bytes())
    return work


@pytest.fixture
def host(tmp_path: Path) -> Callable[..., Toolkit]:
    """A toolkit whose atc is the stand-in with the switches given."""
    return lambda **switches: find_toolkit(standins.environment(tmp_path, atc=switches))


def failure(command: Command, folder: Path, toolkit: Toolkit, timeout_s: float = 60) -> str:
    """The sentence that a failed call ends with."""
    with pytest.raises(CompileFailed) as refusal:
        run_atc(command, folder, toolkit, folder.parent / "x.om.log", timeout_s)
    return str(refusal.value)


def ends(pid: int) -> bool:
    """Whether a process is gone, or a zombie, within ten seconds: a signal was sent, and takes a moment to work."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_the_command_line_is_the_guides() -> None:
    # The ModelZoo guide's call with bs=4 and chip_name=Ascend310P3; the shell takes its quotes away.
    assert COMMAND.arguments() == [
        "--framework=5",
        "--model=model_bs4.onnx",
        "--output=model_bs4",
        "--input_shape=input:4,3,256,128",
        "--input_format=NCHW",
        "--soc_version=Ascend310P3",
    ]


def test_what_is_chosen_follows_the_guides_options() -> None:
    chosen = replace(
        COMMAND, shape=(-1, 3, 256, 128), gears=(1, 4, 8), precision_mode="force_fp32", aipp="aipp.cfg"
    ).arguments()
    assert chosen[3] == "--input_shape=input:-1,3,256,128"
    assert chosen[6:] == ["--dynamic_batch_size=1,4,8", "--precision_mode=force_fp32", "--insert_op_conf=aipp.cfg"]


def test_an_om_is_made_in_the_private_folder_and_others_may_read_it(
    folder: Path, host: Callable[..., Toolkit], tmp_path: Path
) -> None:
    heard: list[str] = []
    made = run_atc(COMMAND, folder, host(), tmp_path / "x.log", 60, beat=lambda _elapsed_s, line: heard.append(line))
    assert made == folder / "model_bs4.om"
    assert stat.S_IMODE(made.stat().st_mode) == 0o644  # the stand-in, as the real one was seen to, writes 0600
    assert (folder / "kernel_meta").is_dir()
    assert heard[0] == ""
    assert heard[-1] == "ATC run success, welcome to the next use."
    log = (tmp_path / "x.log").read_text().splitlines()
    assert log[0].startswith("$ atc --framework=5 --model=model_bs4.onnx")
    assert log[-1] == "ATC run success, welcome to the next use."


def test_a_warning_beside_the_success_is_no_failure(folder: Path, host: Callable[..., Toolkit], tmp_path: Path) -> None:
    assert run_atc(COMMAND, folder, host(warning=True), tmp_path / "x.log", 60).is_file()


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("silent-failure", "atc ended with status 0, but without its line of success"),
        ("no-file", "atc reports success, but wrote no OM or an empty one"),
        ("empty-file", "atc reports success, but wrote no OM or an empty one"),
        ("partial-file", "atc ended with status 255: an inner error of CANN"),
    ],
)
def test_success_takes_the_status_the_line_and_a_new_file(
    mode: str, said: str, folder: Path, host: Callable[..., Toolkit]
) -> None:
    (folder / "model_bs4.om").write_bytes(b"of an earlier call")
    sentence = failure(COMMAND, folder, host(mode=mode))
    assert sentence.startswith(f"model_bs4.om: {said}")
    assert sentence.endswith(f"The whole log: {folder.parent / 'x.om.log'}")


@pytest.mark.parametrize(
    ("switches", "command", "advice", "quoted"),
    [
        ({}, replace(COMMAND, soc_version="Ascend999"), "this CANN does not know the chip", "E10001: "),
        ({}, replace(COMMAND, precision_mode="bf16"), "does not take the precision mode", "E10001: "),
        ({}, replace(COMMAND, model="none.onnx"), "does not take what it was given", "E10001: "),
        ({"needs_driver": True}, COMMAND, "$(uname -m)-linux/devlib", "libascend_hal.so: cannot open"),
        ({"error": "EB0500: a kernel"}, COMMAND, "ASCEND_SLOG_PRINT_TO_STDOUT=1", "EB0500: a kernel"),
        ({"error": "EZ3003: No supported Ops kernel"}, COMMAND, "operator package is not installed", "EZ3003: No"),
    ],
)
def test_a_refusal_says_what_to_do_and_quotes_atc(
    switches: dict[str, object],
    command: Command,
    advice: str,
    quoted: str,
    folder: Path,
    host: Callable[..., Toolkit],
) -> None:
    sentence = failure(command, folder, host(**switches))
    assert advice in sentence
    assert quoted in sentence.split("atc says: ")[1]


@pytest.mark.parametrize("missing", ["ASCEND_TOOLKIT_HOME", "ASCEND_OPP_PATH"])
def test_a_shell_that_has_not_sourced_set_env_is_told_to(
    missing: str, folder: Path, host: Callable[..., Toolkit]
) -> None:
    toolkit = host()
    environment = {name: value for name, value in toolkit.environment.items() if name != missing}
    assert "source set_env.sh" in failure(COMMAND, folder, replace(toolkit, environment=environment))


# One text per row of the table, in the form of public logs and of the ATC manual.
PRINTED = [
    "atc.bin: error while loading shared libraries: libascend_hal.so: cannot open shared object file",
    "atc.bin: error while loading shared libraries: libge_compiler.so: cannot open shared object file",
    "AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead.",
    "E40002: The Python version 3.13 is not supported.",
    "EC0010: [PID: 129] 2025-07-08-10:25:28.680.962 Failed to import Python module [ModuleNotFoundError].",
    "E10001: Value [Ascend311] for parameter [--soc_version] is invalid.",
    "E10001: Value [bf16] for parameter [--precision_mode] is invalid.",
    "E10052: AIPP configuration is invalid.",
    "E19010: No parser is registered for Op [Conv_52, optype [ai.onnx::23::Conv]].",
    "OSError: [Errno 28] No space left on device",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "mkdir: cannot create directory '/root/atc_data': Permission denied",
    "ERROR: unknown command line flag 'dynamic_batch_size'",
    "E11005: The shape of input is missing.",
    "EB0500: operator [Conv_1] failed to compile.",
    "EZ9999: Inner Error!",
]


@pytest.mark.parametrize(("cause", "line"), list(zip(CAUSES, PRINTED, strict=True)), ids=range(len(PRINTED)))
def test_every_known_text_gets_its_own_advice(cause: Cause, line: str) -> None:
    printed = f"ATC start working now, please wait for a moment.\n...\n{line}\n        Solution: N/A\n"
    assert explain(printed, 255).startswith(f": {cause.advice}. atc says: ")


@pytest.mark.parametrize("status", [-9, 137])
def test_a_killed_atc_is_told_to_want_memory(status: int) -> None:
    assert explain("ATC start working now, please wait for a moment.\n", status).startswith(": the machine ran out of")


def test_what_is_not_known_is_quoted_by_its_last_lines() -> None:
    assert explain("one\ntwo\nthree\n\nfour\n", 1) == ". atc says: two | three | four"
    assert explain("", 1) == ""


def test_an_atc_that_hangs_is_ended_when_its_time_is_up(folder: Path, host: Callable[..., Toolkit]) -> None:
    sentence = failure(COMMAND, folder, host(mode="hang"), timeout_s=0.6)
    assert sentence.startswith("model_bs4.om: atc was not done after 0.01 minutes and was ended; --timeout-minutes")


def test_whoever_interrupts_leaves_no_process_of_atc_behind(
    folder: Path, host: Callable[..., Toolkit], tmp_path: Path
) -> None:
    child = folder / "kernel_meta" / "child.pid"

    def interrupt(_elapsed_s: float, _line: str) -> None:
        if child.exists() and child.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_atc(COMMAND, folder, host(mode="hang", children=True), tmp_path / "x.log", 60, interrupt)
    assert ends(int(child.read_text()))


def test_a_child_that_keeps_the_pipe_open_is_not_waited_for(
    folder: Path, host: Callable[..., Toolkit], tmp_path: Path
) -> None:
    assert run_atc(COMMAND, folder, host(children=True), tmp_path / "x.log", 60).is_file()  # the child sleeps 600 s
    assert ends(int((folder / "kernel_meta" / "child.pid").read_text()))


def test_an_atc_that_cannot_be_started_is_a_sentence(folder: Path, host: Callable[..., Toolkit]) -> None:
    (folder / "atc").write_text("#!/no/such/shell\n")
    (folder / "atc").chmod(0o755)
    toolkit = replace(host(), atc=folder / "atc")
    assert failure(COMMAND, folder, toolkit) == f"{folder / 'atc'} cannot be started: No such file or directory"


def test_an_om_says_what_it_takes(folder: Path, host: Callable[..., Toolkit], tmp_path: Path) -> None:
    toolkit = host(cann_version="8.2.RC1")
    facts = read_facts(run_atc(COMMAND, folder, toolkit, tmp_path / "x.log", 60), toolkit)
    values = sum(onnx.numpy_helper.to_array(t).size for t in onnx.load(folder / "model.onnx").graph.initializer)
    assert (facts.soc_version, facts.cann_version) == ("Ascend310P3", "8.2.RC1")
    assert facts.weight_bytes == pytest.approx(2 * values, rel=0.01)  # float16
    assert facts.work_bytes is not None
    assert facts.work_bytes > 0


@pytest.mark.parametrize("content", [None, "{", '{"attr": 5}', '{"attr": [{"key": "soc_version", "value": {"i": 1}}]}'])
def test_what_an_om_does_not_say_is_none(content: str | None, folder: Path, host: Callable[..., Toolkit]) -> None:
    (folder / "x.om").write_bytes(b"no OM")
    (folder / "atc").write_text("#!/bin/sh\n" + ("exit 1" if content is None else f"echo '{content}' > om.json"))
    (folder / "atc").chmod(0o755)
    assert read_facts(folder / "x.om", replace(host(), atc=folder / "atc")) == OmFacts()


# The environment


def test_our_virtual_environment_is_taken_out_and_set_envs_entries_stay() -> None:
    given = {
        "PATH": "/venv/bin:/usr/local/Ascend/ascend-toolkit/latest/bin:/usr/bin:/venv2/bin",
        "PYTHONPATH": "/venv/lib/python3.11/site-packages:/usr/local/Ascend/ascend-toolkit/latest/python/site-packages",
        "LD_LIBRARY_PATH": "/venv/lib:/usr/local/Ascend/ascend-toolkit/latest/lib64",
        "VIRTUAL_ENV": "/venv",
        "PYTHONHOME": "/venv",
        "ASCEND_OPP_PATH": "/usr/local/Ascend/ascend-toolkit/latest/opp",
    }
    assert cleaned(given, {Path("/venv")}) == {
        "PATH": "/usr/local/Ascend/ascend-toolkit/latest/bin:/usr/bin:/venv2/bin",
        "PYTHONPATH": "/usr/local/Ascend/ascend-toolkit/latest/python/site-packages",
        "LD_LIBRARY_PATH": "/venv/lib:/usr/local/Ascend/ascend-toolkit/latest/lib64",
        "ASCEND_OPP_PATH": "/usr/local/Ascend/ascend-toolkit/latest/opp",
    }


def test_atc_does_not_run_with_our_numpy(folder: Path, tmp_path: Path) -> None:
    """The stand-in looks for numpy with the first python3 on the PATH, and ours is 2."""
    calls = tmp_path / "calls"
    given = standins.environment(tmp_path, atc={"check_numpy": True, "calls": str(calls)})
    bare = tmp_path / "bin" / "python3"  # without site-packages, whatever this machine's own python3 has there
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec {Path(sys.base_prefix, "bin", "python3")} -S "$@"\n')
    bare.chmod(0o755)
    given["PATH"] = f"{VENV / 'bin'}:{bare.parent}:{given['PATH']}"
    given["VIRTUAL_ENV"] = str(VENV)
    toolkit = find_toolkit(given)
    assert "needs numpy below 2" in failure(COMMAND, folder, replace(toolkit, environment=given))
    assert run_atc(COMMAND, folder, toolkit, tmp_path / "x.log", 60).is_file()
    seen = json.loads(calls.read_text().splitlines()[-1])["environment"]
    assert str(VENV) not in seen["PATH"].split(os.pathsep)
    assert "VIRTUAL_ENV" not in seen


def test_a_missing_atc_names_the_script_to_source(tmp_path: Path) -> None:
    with pytest.raises(CompileFailed) as refusal:
        find_toolkit({"PATH": str(tmp_path)}, roots=[tmp_path / "Ascend"])
    assert f"{tmp_path}/Ascend/ascend-toolkit/set_env.sh or, from CANN 8.5, {tmp_path}/Ascend/cann/set_env.sh" in str(
        refusal.value
    )
    (tmp_path / "Ascend" / "cann").mkdir(parents=True)
    (tmp_path / "Ascend" / "cann" / "set_env.sh").touch()
    with pytest.raises(CompileFailed) as refusal:
        find_toolkit({"PATH": str(tmp_path)}, roots=[tmp_path / "Ascend"])
    said = f"atc is not on the PATH: run `source {tmp_path}/Ascend/cann/set_env.sh` in this shell first"
    assert str(refusal.value) == said


def test_the_version_is_the_toolkits_own_else_its_folders_else_unknown(tmp_path: Path) -> None:
    told = standins.environment(tmp_path, atc={"cann_version": "8.2.RC1"})
    assert find_toolkit(told).version == "8.2.RC1"
    home = tmp_path / "cann-8.5.1"
    home.mkdir()
    assert find_toolkit({**told, "ASCEND_TOOLKIT_HOME": str(home)}).version == "8.5.1"
    unknown = find_toolkit({**told, "ASCEND_TOOLKIT_HOME": str(tmp_path)})
    assert unknown.version is None
    assert len(unknown.identity) == 64  # what differs then is the program itself
