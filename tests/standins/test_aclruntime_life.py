"""The `aclruntime` stand-in from its first session to the end of the process: opening, threads, devices, the end."""

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.standins import tiny
from tests.standins.conftest import Acl, Array

Load = Callable[..., Acl]
Process = Callable[..., subprocess.CompletedProcess[str]]
GENERAL = re.escape("[-1][ACL: general failure] ")
INVALID = re.escape("[1][ACL: invalid parameter] ")
NO_MEMORY = re.escape("[2][ACL: memory allocation fail] ")


def in_another_thread(call: Callable[[], Any]) -> BaseException | None:
    """What it raised there."""
    raised: list[BaseException] = []

    def target() -> None:
        try:
            call()
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    return raised[0] if raised else None


# --- opening


@pytest.mark.parametrize(
    "content", [None, b"", b"IMOD", b'{"magic": "other"}\n'], ids=["absent", "empty", "text", "other"]
)
def test_what_is_no_om_is_refused(content: bytes | None, load: Load, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "bad.om").write_bytes(content)
    with pytest.raises(RuntimeError, match=f"^{INVALID}$"):
        load().open(tmp_path / "bad.om")


def test_an_om_of_another_chip_or_a_later_cann_is_refused(load: Load, tmp_path: Path) -> None:
    other, later = tmp_path / "other", tmp_path / "later"
    other.mkdir()
    later.mkdir()
    acl = load(cann_version="8.1.RC1")
    for om in (tiny.om(other, soc_version="Ascend310P1"), tiny.om(later, cann_version="8.1.RC2")):
        with pytest.raises(RuntimeError, match=f"^{INVALID}$"):
            acl.open(om)
    assert acl.counters["contexts_alive"] == 2  # of the failed openings; they stay until finalize
    for version in ("8.1.RC2", "8.1", "8.5.0", "9.0.0"):
        assert load(cann_version=version).open(later / "tiny_1.om")


@pytest.mark.parametrize("device", [-1, 2])
def test_a_device_that_is_not_there_shows_acls_own_code(device: int, load: Load, om_1: Path) -> None:
    with pytest.raises(RuntimeError, match=re.escape("[107001][Error code unknown] ")):
        load().open(om_1, device)


def test_a_device_can_refuse_to_open(load: Load, om_1: Path) -> None:
    acl = load(faults=[{"at": "open", "code": 507033, "device": 1}])
    acl.open(om_1, 0)
    with pytest.raises(RuntimeError, match=re.escape("[507033][Error code unknown] ")):
        acl.open(om_1, 1)
    acl.open(om_1, 1)  # the second time; the fault named the first


def test_a_failed_start_of_acl_is_only_logged(load: Load, om_1: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=re.escape("[100001][ACL is not initialized] ")):
        load(faults=[{"at": "init", "code": 507899}]).open(om_1)
    assert "errorCode = 507899" in capfd.readouterr().out


def test_without_the_driver_the_import_fails(load: Load) -> None:
    with pytest.raises(ImportError, match=r"^libascend_hal\.so: cannot open shared object file"):
        load(faults=[{"at": "import"}])


def test_the_old_generation_talks_even_when_told_not_to(
    load: Load, om_1: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    acl = load(generation="old")
    acl.open(om_1), acl.open(om_1)
    assert capfd.readouterr().out.count("[INFO]") == 2
    acl = load(generation="new")
    acl.open(om_1)
    assert capfd.readouterr().out == ""


def test_log_lines_come_on_fd_1(load: Load, om_4: Path, crops: Array, capfd: pytest.CaptureFixture[str]) -> None:
    acl = load(noise=True)
    acl.outputs(acl.open(om_4), crops)
    assert "[WARN]" in capfd.readouterr().out


@pytest.mark.parametrize("call", ["aclruntime.InferenceSession(sys.argv[1], 0, None)", "aclruntime.model(sys.argv[1])"])
def test_no_options_are_a_crash(call: str, process: Process, om_1: Path) -> None:
    assert process(call, om_1).returncode == -signal.SIGSEGV


# --- threads and devices


def test_an_old_session_works_in_its_own_thread_alone(load: Load, om_4: Path, crops: Array) -> None:
    acl = load(generation="old")
    session = acl.open(om_4)
    acl.vectors(session, crops)
    raised = in_another_thread(lambda: acl.outputs(session, crops))
    assert str(raised) == "[-1][ACL: general failure] "
    acl.vectors(session, crops)


def test_a_new_session_works_in_any_thread(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    assert in_another_thread(lambda: acl.vectors(session, crops)) is None


def test_an_old_thread_keeps_the_context_of_its_last_device(load: Load, om_4: Path, crops: Array) -> None:
    acl = load(generation="old")
    first, second = acl.open(om_4, 0), acl.open(om_4, 1)
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        acl.outputs(first, crops)
    acl.vectors(second, crops)
    acl = load(generation="new")
    first, second = acl.open(om_4, 0), acl.open(om_4, 1)
    acl.vectors(first, crops), acl.vectors(second, crops)


def test_tensors_need_a_thread_that_has_used_a_session(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    with pytest.raises(RuntimeError, match=f"^{NO_MEMORY}$"):
        acl.module.Tensor(crops)
    (tensor,) = acl.outputs(acl.open(om_4), crops)
    assert str(in_another_thread(tensor.to_host)) == "[2][ACL: memory allocation fail] "
    tensor.to_host()


def test_one_model_in_two_threads_at_once_is_refused(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session, other = acl.open(om_4), acl.open(om_4)
    raised: list[BaseException | None] = []

    class Meddling(acl.module.BaseTensor):  # type: ignore[misc,name-defined]
        """Lets another thread run while its bytes are being read."""

        @property
        def buf(self) -> int:
            raised.append(in_another_thread(lambda: acl.outputs(session, crops)))
            raised.append(in_another_thread(lambda: acl.outputs(other, crops)))
            return crops.ctypes.data

        @buf.setter
        def buf(self, address: int) -> None:
            pass

    session.run([session.get_outputs()[0].name], [Meddling(0, crops.nbytes)])
    assert [str(error) for error in raised] == ["[-1][ACL: general failure] ", "None"]


def test_the_gil_is_held_while_the_device_works(load: Load, om_4: Path, crops: Array) -> None:
    acl = load(faults=[{"at": "execute", "kind": "slow", "seconds": 0.3}])
    session = acl.open(om_4)
    ticks, ready, done = [0], threading.Event(), threading.Event()

    def tick() -> None:
        ready.set()
        while not done.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    ready.wait()
    before, began = ticks[0], time.perf_counter()
    acl.outputs(session, crops)
    took, ticked = time.perf_counter() - began, ticks[0] - before
    done.set()
    thread.join()
    assert took >= 0.3
    assert ticked < 30  # of some 300; a few where ONNX Runtime itself lets go


def test_a_forked_child_cannot_use_it(process: Process, om_4: Path) -> None:
    code = """
s = session(sys.argv[1])
child = os.fork()
if child:
    os.waitpid(child, 0)
try:
    run(s, crops)
    print("ran", file=sys.stderr, flush=True)
except RuntimeError as error:
    print(error, file=sys.stderr, flush=True)
os._exit(0)
"""
    assert process(code, om_4).stderr.splitlines() == ["[-1][ACL: general failure] ", "ran"]


# --- the end


def test_finalize_is_the_end_for_the_process(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    assert session.free_resource() == 0
    session = acl.open(om_4)  # until then, sessions come and go
    assert acl.module.InferenceSession.finalize() == 0
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        acl.outputs(session, crops)
    with pytest.raises(RuntimeError, match=re.escape("[100001][ACL is not initialized] ")):
        acl.open(om_4)
    assert acl.module.InferenceSession.finalize() == 0


def test_an_old_session_ends_all_others_and_fails_when_asked_twice(load: Load, om_4: Path, crops: Array) -> None:
    acl = load(generation="old")
    session, other = acl.open(om_4), acl.open(om_4, 1)
    assert session.finalize() == 0
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        acl.outputs(other, crops)
    assert other.finalize() != 0


def test_the_ends_return_codes_and_never_raise(load: Load, om_4: Path) -> None:
    acl = load(faults=[{"at": "free", "code": 107003}, {"at": "finalize", "code": 507899}])
    session = acl.open(om_4)
    assert (session.free_resource(), session.free_resource(), session.free_resource()) == (107003, 0, 0)
    assert acl.module.InferenceSession.finalize() == 507899


def test_a_freed_session_runs_no_more_and_its_outputs_are_lost(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    (desc,), outputs = session.get_inputs(), acl.outputs(session, crops)
    session.free_resource()
    acl.open(om_4)  # so that the thread has a context
    with pytest.raises(RuntimeError, match=f"^{INVALID}$"):
        session.run([], acl.feed(crops))
    with pytest.raises(RuntimeError, match=f"^{INVALID}$"):
        outputs[0].to_host()
    with pytest.raises(RuntimeError, match="outlived its session"):
        _ = desc.shape
    outputs.clear()
    assert acl.counters["leaked_bytes"] == 4 * 8 * 4


def test_a_session_that_is_only_dropped_leaves_its_context(load: Load, om_4: Path) -> None:
    acl = load()
    (desc,) = acl.open(om_4).get_inputs()
    acl.sessions.clear()
    assert (acl.counters["sessions_alive"], acl.counters["contexts_alive"]) == (0, 1)
    with pytest.raises(RuntimeError, match="outlived its session"):
        _ = desc.shape
    acl.module.InferenceSession.finalize()
    assert acl.counters["contexts_alive"] == 0


def test_the_order_of_the_end_is_on_record(process: Process, om_4: Path, tmp_path: Path) -> None:
    tidy = "s = session(sys.argv[1]); t = run(s, crops); del t; s.free_resource(); s.finalize()"
    left = "s = session(sys.argv[1])"
    for code, expected in ((tidy, ["free 0 0", "finalize 0", "exit"]), (left, ["destructor", "finalize 0", "exit"])):
        assert process(code, om_4, counters_file=str(tmp_path / "counters")).returncode == 0
        counters = json.loads((tmp_path / "counters").read_text())
        assert counters["events"] == ["open 0 tiny_4.om", *expected]
        assert counters["finalized"]
