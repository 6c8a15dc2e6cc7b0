"""`reid serve` in a process of its own, for tests that need a real server."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Server:
    """`reid serve` in a process of its own."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "REID_LOG_LEVEL": "warning",  # little to drain
            **(environment or {}),
        }
        command = [sys.executable, "-m", "app", "serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables, cwd=ROOT)
        assert self.process.stderr
        first = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:[1-9]\d*", first)
        assert found, first + self.process.stderr.read()
        self.url = found[0]

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return self.process.returncode
