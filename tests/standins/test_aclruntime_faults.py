"""The `aclruntime` stand-in when memory runs out, devices fail and processes die; and the time that it takes."""

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.standins.conftest import Acl, Array, program

Load = Callable[..., Acl]
Process = Callable[..., subprocess.CompletedProcess[str]]
GENERAL = re.escape("[-1][ACL: general failure] ")
INVALID = re.escape("[1][ACL: invalid parameter] ")
NO_MEMORY = re.escape("[2][ACL: memory allocation fail] ")


# --- memory


def test_ten_thousand_runs_leave_nothing_behind_but_timings(load: Load, om_1: Path, crops: Array) -> None:
    acl = load()
    session, crop = acl.open(om_1), np.array(crops[:1])
    idle = acl.counters["device_bytes"]
    for count in range(1, 10_001):
        acl.vectors(session, crop)
        if count == 100:
            assert (acl.counters["exec_times"], acl.counters["h2d_times"], acl.counters["d2h_times"]) == (100, 100, 100)
            assert len(session.sumary().exec_time_list) == 100
            assert len(acl.module.MemorySummary().H2D_time_list) == 100
        if count % 100 == 0:
            session.reset_sumaryinfo()
            acl.module.MemorySummary().reset()
    counters = acl.counters
    assert (counters["runs"], counters["device_bytes"], counters["leaked_bytes"]) == (10_000, idle, 0)
    assert (counters["exec_times"], counters["h2d_times"], counters["d2h_times"]) == (0, 0, 0)


def test_timings_are_numbers_before_and_pairs_after(load: Load, om_4: Path, crops: Array) -> None:
    for generation, kind in (("old", float), ("new", tuple)):
        acl = load(generation=generation)
        session = acl.open(om_4)
        session.options().loop = 3
        acl.outputs(session, crops)
        assert [type(entry) for entry in session.sumary().exec_time_list] == [kind] * 3


def test_an_output_holds_device_memory_until_it_goes(load: Load, om_gears: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_gears)
    idle = acl.counters["device_bytes"]
    session.set_dynamic_batchsize(1)
    outputs = acl.outputs(session, np.array(crops[:1]))
    assert acl.counters["device_bytes"] - idle == 4 * 8 * 4  # at the largest batch
    outputs.clear()
    assert acl.counters["device_bytes"] == idle


@pytest.mark.parametrize(
    ("fault", "text", "leaks"),
    [
        ({"at": "input-memory", "code": 207001}, GENERAL, False),
        ({"at": "output-memory", "code": 207001}, NO_MEMORY, True),
        ({"at": "h2d", "code": 507899}, re.escape("[26][ACL: memory copy fail] "), True),
        ({"at": "execute", "code": 207001}, GENERAL, True),
        ({"at": "execute", "code": 507011}, GENERAL, True),
    ],
)
def test_a_failed_run_leaks_its_input(
    fault: dict[str, Any], text: str, leaks: bool, load: Load, om_4: Path, crops: Array
) -> None:
    acl = load(faults=[{**fault, "nth": 2}])
    session = acl.open(om_4)
    acl.vectors(session, crops)
    with pytest.raises(RuntimeError, match=f"^{text}$"):
        acl.outputs(session, crops)
    assert (acl.counters["leaked_bytes"] >= crops.nbytes) == leaks


def test_memory_runs_out(load: Load, om_4: Path, crops: Array) -> None:
    acl = load(memory_mb=1)
    session, held = acl.open(om_4), list[Any]()

    def hoard() -> None:
        while True:
            held.extend(acl.outputs(session, crops))

    with pytest.raises(RuntimeError, match=f"^({GENERAL}|{NO_MEMORY})$"):
        hoard()
    with pytest.raises(RuntimeError, match=f"^{INVALID}$"):
        load(memory_mb=0).open(om_4)


# --- faults


def test_a_fault_of_the_device_dumps_tensors_and_stays(load: Load, om_4: Path, crops: Array, tmp_path: Path) -> None:
    acl = load(faults=[{"at": "execute", "code": 507015, "nth": 2}])
    session, other = acl.open(om_4), acl.open(om_4)
    acl.vectors(session, crops)
    for broken in (session, session, other):
        with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
            acl.outputs(broken, crops)
    (dump,) = tmp_path.glob("exception_cb_index_*_input_*.bin")
    assert dump.read_bytes() == crops.tobytes()


def test_outputs_can_be_no_numbers_or_never_arrive(load: Load, om_4: Path, crops: Array) -> None:
    acl = load(faults=[{"at": "execute", "kind": "nan"}, {"at": "d2h", "kind": "lost", "nth": 2}])
    session = acl.open(om_4)
    assert np.isnan(acl.vectors(session, crops)).all()
    assert acl.vectors(session, crops).dtype == object


@pytest.mark.parametrize(("kind", "status"), [("death", -signal.SIGKILL), ("segv", -signal.SIGSEGV)])
def test_the_process_can_die_once(kind: str, status: int, process: Process, om_4: Path, tmp_path: Path) -> None:
    faults = [{"at": "execute", "kind": kind, "nth": 2, "marker": str(tmp_path / "died")}]
    code = "s = session(sys.argv[1]); run(s, crops); run(s, crops)"
    assert process(code, om_4, faults=faults).returncode == status
    assert process(code, om_4, faults=faults).returncode == 0


def test_more_feeds_than_inputs_end_the_process(process: Process, om_4: Path) -> None:
    code = """
feed = aclruntime.BaseTensor(crops.ctypes.data, crops.nbytes)
session(sys.argv[1]).run(["Flatten_2:0:output"], [feed, feed])
"""
    assert process(code, om_4).returncode == -signal.SIGSEGV


def test_a_hung_run_hears_no_handler_and_ends_by_sigkill(om_4: Path, tmp_path: Path) -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
s = session(sys.argv[1])
run(s, crops)
"""
    hangs = tmp_path / "hangs"
    command, environment = program(code, om_4, faults=[{"at": "execute", "kind": "hang", "marker": str(hangs)}])
    hung = subprocess.Popen(command, env=environment, cwd=tmp_path)
    while not hangs.exists():
        assert hung.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)  # from the marker to the wait itself
    hung.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        hung.wait(0.5)
    hung.kill()
    assert hung.wait() == -signal.SIGKILL


# --- time


def test_a_run_takes_what_the_guides_table_says(load: Load, om_4: Path, crops: Array) -> None:
    acl = load(speed=20.0, compute="made-up")
    session = acl.open(om_4)
    began = time.perf_counter()
    acl.outputs(session, crops)
    # Four crops took 1.08 ms (3715 images/s); the copy of their 1536 bytes is nothing.
    assert 0.0216 <= time.perf_counter() - began < 0.2


def test_costs_between_and_beyond_the_tables_rows() -> None:
    from tests.standins.acl.model import copy_seconds, execute_seconds

    assert [1000 * execute_seconds(batch) for batch in (1, 8, 64)] == pytest.approx([0.65, 1.87, 28.7])
    assert 1000 * execute_seconds(12) == pytest.approx((1.87 + 4.63) / 2)
    assert 1000 * execute_seconds(128) == pytest.approx(2 * 28.7)
    assert 1000 * copy_seconds(8 * 3 * 256 * 128 * 4) == pytest.approx(0.786, abs=0.001)  # an old log has 0.80 ms


def test_two_sessions_of_one_device_are_no_faster_than_one(load: Load, om_4: Path, crops: Array) -> None:
    acl = load(speed=50.0, compute="made-up")
    sessions = [acl.open(om_4), acl.open(om_4)]
    threads = [threading.Thread(target=acl.outputs, args=(session, crops)) for session in sessions]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.perf_counter() - began >= 2 * 0.054  # 50 times 1.08 ms each
