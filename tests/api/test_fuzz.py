"""Requests made up from the OpenAPI schema: whatever comes, no fault of ours, and answers of the documented form."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.server import Server

CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance"


def test_made_up_requests_meet_no_fault(
    serve: Callable[..., Server], tiny_model_directory: Path, tmp_path: Path
) -> None:
    server = serve("--model", str(tiny_model_directory), "--data", str(tmp_path / "data"))
    fuzzer = Path(sys.executable).with_name("schemathesis")
    command = [
        str(fuzzer),
        "run",
        f"{server.url}/openapi.json",
        "--phases",
        "fuzzing",
        "-n",
        "15",
        "--seed",
        "1",
        "--checks",
        CHECKS,
        "--header",
        "X-Timeout-Ms: 60000",  # one of a millisecond is answered 504, as it should be
    ]
    # In a folder of its own: it writes a cache.
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=110, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:]
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    operations = sum(map(len, paths.values()))  # a path holds nothing but its operations
    assert f"{operations} passed" in ended.stdout, ended.stdout[-3000:]  # every one was tried
