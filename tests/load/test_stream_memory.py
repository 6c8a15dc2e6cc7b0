"""The measurement of a stream's memory, in small: a server that held what it reads would take all of it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("kind", "megabytes", "within"), [("tar", 120, 70), ("npy", 120, 70)])
def test_a_stream_takes_less_memory_than_it_is_long(kind: str, megabytes: int, within: int) -> None:
    sizes = ["--megabytes", str(megabytes), "--within-mb", str(within)]
    command = [sys.executable, "-m", "tests.load.stream_memory", "--kind", kind, *sizes]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=110, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
