"""The main job on a pretended Atlas host, in processes of their own: checkpoint, ONNX, OM, server, answers over HTTP.

Verified with stand-ins for ATC, npu-smi and aclruntime, not on an NPU.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.demo.dataset import Recipe, draw_dataset
from tests import standins
from tests.server import ROOT, Server


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A few drawn people, two crops each."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for crop in draw_dataset(Recipe(seed=3, persons=4, distractors=0, cameras=2, queries=1, shots=(1, 1))):
        (folder / crop.name).write_bytes(crop.jpeg)
    return folder


@pytest.fixture
def host(tmp_path: Path) -> dict[str, str]:
    """Variables of a pretended Atlas host whose environment's commands come first."""
    base = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return {**standins.environment(tmp_path, base=base), "TMPDIR": str(tmp_path)}


def run(*command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def ask(server: Server, crop: Path) -> list[dict[str, object]]:
    answer = httpx.post(f"{server.url}/v1/collections/lobby/search?k=3", files={"image": crop.read_bytes()}, timeout=60)
    assert answer.status_code == 200, answer.text
    matches: list[dict[str, object]] = answer.json()["matches"]
    return matches


def test_from_a_checkpoint_to_the_same_answers_as_on_the_cpu(
    host: dict[str, str], crops: Path, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    checkpoint, model = str(tmp_path / "tiny.ckpt"), str(tmp_path / "model")
    run(
        "model_build",
        "made-up-checkpoint",
        "--output",
        checkpoint,
        "--width",
        "4",
        "--depths",
        "1,1,1,1",
        environment=host,
    )
    built = run(
        "model_build", "all", "--checkpoint", checkpoint, "--output", model, "--batch-sizes", "1,4", environment=host
    )
    assert "model_bs4.om" in built  # the chip's name is npu-smi's, the second verification ran on the stand-in
    npu = {"REID_VARIANT": "om-fp16", "REID_DEVICES": "ascend:0,ascend:1"}
    answers = []
    for name, variables in (("npu", host | npu), ("cpu", host)):
        server = serve("--model", model, "--data", str(tmp_path / name), environment=variables)
        run("app", "index", str(crops), "--collection", "lobby", "--url", server.url, environment=host)
        answers.append([ask(server, crop) for crop in sorted(crops.iterdir())])
        fingerprint = httpx.get(f"{server.url}/v1/model").json()["fingerprint"]
        assert fingerprint.startswith({"npu": "om-fp16-", "cpu": "onnx-fp32-"}[name])
    on_npu, on_cpu = answers
    for npu_matches, cpu_matches in zip(on_npu, on_cpu, strict=True):
        assert npu_matches[0]["id"] == cpu_matches[0]["id"]
        scores = [[match["score"] for match in matches] for matches in (npu_matches, cpu_matches)]
        assert scores[0] == pytest.approx(scores[1], abs=2e-3)


def test_the_acceptance_script_passes_on_the_stand_ins(
    host: dict[str, str], crops: Path, tiny_model_directory: Path, tmp_path: Path
) -> None:
    model = tmp_path / "accepted"
    model.mkdir()
    for file in tiny_model_directory.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    (crops / "Thumbs.db").write_bytes(b"no picture, as in Market-1501's folders")
    small = {"SIZES": "1,4", "ROUNDS": "20", "LOOP": "5", "MIN_PER_S": "1"}  # a figure of speed would be the stand-in's
    late = {"PATH": with_a_late_chip(host["PATH"], tmp_path), "REID_VARIANT": "made-up"}  # the latter is not for it
    done = accept(model, crops, host | small | late, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:10]] == [["ok", str(number)] for number in range(1, 11)]
    assert lines[-1] == "10 ok, 0 left out, 0 failed"
    assert (tmp_path / "late").exists()


@pytest.mark.parametrize(
    ("lacks", "sentence"),
    [
        ("reid", "there is no command `reid` on the PATH"),
        ("python", "does not have this project and httpx"),
        ("model", "has no manifest.json"),
        ("crops", "there is no folder"),
    ],
)
def test_the_acceptance_script_needs_an_environment_a_model_and_crops(
    lacks: str, sentence: str, tiny_model_directory: Path, tmp_path: Path
) -> None:
    """Else each of ten commands would say so in its own way, and the ninth only after minutes."""
    for name, content in (("reid", "exit 9"), ("python", "exit 1" if lacks == "python" else "exit 0")):
        if name != lacks or name == "python":
            (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
            (tmp_path / name).chmod(0o755)
    model = tmp_path if lacks == "model" else tiny_model_directory
    crops = tmp_path / "nowhere" if lacks == "crops" else tmp_path
    done = accept(model, crops, {"PATH": f"{tmp_path}:/usr/bin:/bin"}, tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence in done.stderr


def test_the_acceptance_script_says_which_command_fell(
    host: dict[str, str], crops: Path, om_model_directory: Path, tmp_path: Path
) -> None:
    ill = host | {"STANDIN_NPU_SMI": json.dumps({"layout": "unhealthy"}), "PATH": without_atc(host["PATH"], tmp_path)}
    ill |= {"STANDIN_ACL": json.dumps({"faults": [{"at": "open", "code": 507033, "nth": 0, "device": 1}]})}
    small = {"ROUNDS": "1", "LOOP": "1", "MIN_PER_S": "100000000", "WAIT_S": "5"}
    done = accept(om_model_directory, crops, ill | small, tmp_path)
    fell = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FALLS")]
    # One chip of two is ill. The other gives the right vectors (5 and 8), and no chip is as fast as is asked for here.
    assert fell == ["1", "6", "7", "9", "10"], done.stdout
    assert done.stdout.count("left out") == 4  # three commands, and the sum
    assert done.returncode == 1


def accept(model: Path, crops: Path, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """The acceptance script, run."""
    script = ROOT / "deploy" / "atlas-acceptance.sh"
    return subprocess.run(
        [str(script), str(model), str(crops)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def with_a_late_chip(path: str, folder: Path) -> str:
    """A PATH whose `reid serve` meets a chip that cannot be opened at first, as one just given back may be."""
    fault = {"at": "open", "code": 507033, "device": 1, "marker": str(folder / "late")}
    (folder / "first").mkdir()
    command = folder / "first" / "reid"
    command.write_text(
        f"#!/bin/sh\n[ $1 = serve ] && export STANDIN_ACL='{json.dumps({'faults': [fault]})}'\n"
        f'exec {Path(sys.executable).parent}/reid "$@"\n'
    )
    command.chmod(0o755)
    return f"{command.parent}:{path}"


def without_atc(path: str, folder: Path) -> str:
    """A PATH with the stand-ins' npu-smi and without their atc."""
    (folder / "bin").mkdir()
    (folder / "bin" / "npu-smi").symlink_to(standins.BIN / "npu-smi")
    return path.replace(str(standins.BIN), str(folder / "bin"))


@pytest.mark.parametrize("at", ["open", "execute"])
def test_a_server_whose_chip_hangs_stops_when_told_and_leaves_no_worker(
    at: str, host: dict[str, str], om_model_directory: Path, tmp_path: Path
) -> None:
    hanging = json.dumps({"faults": [{"at": at, "kind": "hang", "nth": 0}]})
    npu = {"REID_VARIANT": "om-fp16", "REID_DEVICE_TIMEOUT_S": "300", "STANDIN_ACL": hanging}
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--model", str(om_model_directory)]
    server = subprocess.Popen([*command, "--data", str(tmp_path / "data")], env=host | npu, cwd=ROOT)
    try:
        worker = wait_for_worker(server.pid)
        server.terminate()
        assert server.wait(timeout=30) == 0
        assert not Path(f"/proc/{worker}").exists()
    finally:
        server.kill()
        server.wait()


def wait_for_worker(server: int) -> int:
    """The id of the process that holds the chip, once it is there and has had time to hang."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        children = [file.read_text() for file in Path(f"/proc/{server}/task").glob("*/children")]  # of each thread
        for entry in " ".join(children).split():
            if b"app.adapters.worker" in Path(f"/proc/{entry}/cmdline").read_bytes():
                time.sleep(1.5)  # that it hangs cannot be seen from outside; that it ends all the same is what counts
                return int(entry)
        time.sleep(0.05)
    raise AssertionError("no worker was started")
