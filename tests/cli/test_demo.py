"""`reid demo --serve`: the whole main job from nothing, its second start, and its start after a new model came."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.demo.dataset import Recipe, write_folder

ROOT = Path(__file__).parents[2]
SMALL = Recipe(seed=8, persons=8, distractors=2, cameras=3, seen_by=0.9)


@contextmanager
def running(folder: Path, model: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """The server's address, and what it printed before it was ready."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "REID_LOG_LEVEL": "warning"}
    if model:
        environment["REID_MODEL_DIR"] = str(model)
    command = [sys.executable, "-m", "app", "demo", str(folder), "--serve", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT
    )
    assert process.stdout
    printed: list[str] = []
    try:
        for line in process.stdout:
            printed.append(line)
            if found := re.search(r"serving on (http://127\.0\.0\.1:\d+)", line):
                yield found[1], printed
                break
        else:
            pytest.fail("".join(printed))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate()


def test_it_indexes_before_it_serves_and_starts_again_and_takes_a_new_model(
    tmp_path: Path, tiny_model_directory: Path
) -> None:
    write_folder(SMALL, tmp_path / "data")  # what is drawn already is taken as it is
    count = len(list((tmp_path / "data" / "bounding_box_test").iterdir()))
    query = sorted((tmp_path / "data" / "query").iterdir())[0]
    with running(tmp_path) as (url, printed):
        assert f"collection demo: {count} added" in "".join(printed)
        assert f"curl -F image=@{query}" in "".join(printed)
        answer = httpx.post(f"{url}/v1/collections/demo/search", files={"image": query.read_bytes()}).json()
        assert answer["matches"][0]["person_id"] == query.name[:4]
        assert len(httpx.get(f"{url}/examples").json()["examples"]) > 5
    with running(tmp_path) as (_, printed):
        assert f"collection demo: {count} unchanged" in "".join(printed)
    with running(tmp_path, tiny_model_directory) as (_, printed):
        assert f"collection demo: {count} added" in "".join(printed)
