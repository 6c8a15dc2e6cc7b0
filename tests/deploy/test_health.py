"""The program behind HEALTHCHECK, run against a real server and against made-up ones."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

from tests.deploy.files import ROOT
from tests.server import Server


def health(port: int | None, *route: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program as the image runs it, in an environment of its own."""
    command = [sys.executable, "-I", str(ROOT / "deploy" / "health.py"), *route]
    variables = {"REID_PORT": str(port), **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=30)


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that gives one answer to everything; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"detail": "the model is warming up"}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_health_check_passes_on_a_real_server(serve: Callable[..., Server], tmp_path: Path) -> None:
    port = urlsplit(serve("--data", str(tmp_path)).url).port
    assert health(port, "livez").returncode == 0
    end = monotonic() + 30
    while (ready := health(port, "readyz", REID_HOST="0.0.0.0")).returncode and monotonic() < end:
        sleep(0.1)
    assert ready.returncode == 0, ready.stdout
    assert '"ready":true' in ready.stdout


def test_a_server_that_is_not_ready_is_not_healthy_and_says_why() -> None:
    with answering(503) as port:
        done = health(port)
    assert done.returncode == 1
    assert "readyz: 503" in done.stdout
    assert "warming up" in done.stdout


def test_no_server_is_not_healthy() -> None:
    with answering(200) as port:
        pass
    done = health(port)
    assert done.returncode == 1
    assert "no answer" in done.stdout


def test_the_health_check_asks_no_proxy() -> None:
    with answering(200) as port:
        assert health(port, http_proxy="http://127.0.0.1:9").returncode == 0
