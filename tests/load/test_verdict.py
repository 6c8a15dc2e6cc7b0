"""When a run does not count, and what processes used."""

import os
import subprocess
import sys
import time

from tests.load.generator import NOT_SENT
from tests.load.samples import Sample, Taken
from tests.load.usage import GENERATOR, SERVER, Usage, Used, Watch
from tests.load.verdict import against

GOOD = Taken(tuple(Sample(float(i), float(i), i + 0.05) for i in range(10)), ((0.0, 10.0),))


def usage(generator: float = 0.2, others: float = 0.02, stolen: float = 0.0) -> Usage:
    processes = (Used(GENERATOR, 1, "python", generator, 1, 1, 1), Used(SERVER, 2, "python", 1.5, 1, 1, 1))
    return Usage(processes, 2, 10.0, 2.0, others, stolen)


def test_a_run_in_which_only_the_server_was_busy_holds() -> None:
    assert against(usage(), GOOD) == []


def test_a_generator_that_is_busy_itself_spoils_the_run() -> None:
    assert against(usage(generator=0.9), GOOD) == ["the generator used 0.90 of a core: it measured itself (limit 0.7)"]


def test_another_process_that_takes_time_spoils_the_run() -> None:
    assert against(usage(others=0.5), GOOD) == ["processes without a part in this used 0.50 cores (limit 0.1)"]


def test_a_host_that_takes_time_back_spoils_the_run() -> None:
    assert against(usage(stolen=0.2), GOOD) == ["the host took 0.20 cores away (limit 0.05)"]


def test_requests_that_go_out_late_spoil_the_run_unless_lateness_is_small_beside_the_latency() -> None:
    late = Taken(tuple(Sample(i, i + 0.02, i + 0.05) for i in range(10)), ((0.0, 10.0),))
    assert against(usage(), late) == ["requests went out up to 20.0 ms late (p99; limit 10.0)"]
    slow = Taken(tuple(Sample(i, i + 0.02, i + 1.0) for i in range(10)), ((0.0, 11.0),))  # a tenth of 1,000 ms is 100
    assert against(usage(), slow) == []


def test_requests_that_were_not_sent_spoil_the_run() -> None:
    lost = Taken((*GOOD.samples, Sample(1.0, 1.0, 1.0, NOT_SENT)), GOOD.windows)
    assert against(usage(), lost) == ["1 requests were not sent: too many were in flight"]


def test_each_process_counts_once_in_the_nearest_role_and_others_count_for_nobody() -> None:
    # A server whose child does its work, as LitServe's do; both are also descendants of the generator, which is us.
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as server:
        watch = Watch({GENERATOR: (os.getpid(),), SERVER: (server.pid,)})
        _burn(0.3)
        while len([p for p in watch.usage().processes if p.role == SERVER]) < 2:
            time.sleep(0.01)
        found = watch.usage()
        server.communicate(b"\n")
    assert [p.pid for p in found.processes if p.pid == os.getpid() and p.role == GENERATOR] == [os.getpid()]
    assert len({p.pid for p in found.processes}) == len(found.processes)
    assert found.cores_of(GENERATOR) * found.seconds >= 0.25  # 0.3 s, counted in ticks of a hundredth
    assert 0 < found.memory(SERVER)["pss_bytes"] <= found.memory(SERVER)["rss_bytes"]
    assert found.memory(SERVER)["rss_bytes"] <= found.memory(SERVER)["peak_rss_bytes"]


def _burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
