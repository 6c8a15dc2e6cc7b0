import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.adapters.model_directory import ModelDirectory, sha256_of
from app.core.manifest import MANIFEST_FILE, parse_manifest
from model_build.cli import commands
from model_build.cli.export import batch_sizes

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made-up") / "made-up.ckpt"
    status, out, _ = run("made-up-checkpoint", "--output", path, "--width", 4, "--depths", "1,1,1,1")
    assert (status, out) == (0, f"{path}: made-up weights, meaningless vectors\n")
    return path


def test_made_up_checkpoint_export_and_verify_lead_to_a_model(checkpoint: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    status, out, _ = run(
        "export", "--checkpoint", checkpoint, "--output", model, "--batch-sizes", "2,1", "--label", "x"
    )
    assert status == 0
    assert out.splitlines()[-1] == f"{model}: x; 128 values a vector; 4 files"
    assert [artefact.batch for artefact in ModelDirectory.open(model).manifest.artefacts] == [None, 1, 2]
    status, out, _ = run("verify", model)
    assert status == 0
    assert out.count("ok") == 3
    assert out.splitlines()[-1] == f"{model}: whole, and all 3 ONNX files give torch's vectors"


def test_a_checkpoint_that_cannot_be_used_is_one_sentence_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "page.ckpt").write_text("<!DOCTYPE html>")
    status, out, err = run("export", "--checkpoint", tmp_path / "page.ckpt", "--output", tmp_path / "model")
    assert (status, out) == (1, "")
    said = "error: page.ckpt is a web page or XML: the download link led to a page, not to the file"
    assert err == said + "\n"
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "--output", "m"],
        ["export", "--checkpoint", "c", "--output", "m", "--batch-sizes", "1,two"],
        ["export", "--checkpoint", "c", "--output", "m", "--batch-sizes", "0"],
        ["export", "--checkpoint", "c", "--output", "m", "--batch-sizes", "257"],
        ["made-up-checkpoint", "--output", "c", "--depths", "3,4"],
        ["made-up-checkpoint", "--output", "c", "--depths", "3,4,6,0"],
        ["made-up-checkpoint", "--output", "c", "--width", "0"],
        ["verify"],
        ["unknown"],
    ],
)
def test_a_wrong_call_is_status_2(arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2


def test_batch_sizes_are_sorted_and_each_counts_once() -> None:
    assert batch_sizes("8, 1,4,1") == (1, 4, 8)
    assert batch_sizes("none") == ()


def test_verify_without_a_model_is_one_sentence_and_status_1(tmp_path: Path) -> None:
    status, _, err = run("verify", tmp_path)
    assert status == 1
    assert (
        err == f"error: {tmp_path} has no manifest.json: the export was not finished, or this is no model directory\n"
    )


def test_verify_fails_where_the_golden_vectors_are_not_those_of_the_graph(
    tiny_model_directory: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_model_directory, tmp_path / "copy")
    with np.load(copy / "golden.npz") as arrays:
        np.savez(copy / "golden.npz", crops=arrays["crops"], vectors=arrays["vectors"] * np.float32(1.001))
    content = json.loads((copy / MANIFEST_FILE).read_text())
    content["golden"]["sha256"] = sha256_of(copy / "golden.npz")  # an honest hash of the wrong vectors
    (copy / MANIFEST_FILE).write_text(parse_manifest(json.dumps(content)).to_json())
    status, out, err = run("verify", copy)
    assert status == 1
    assert out.count("FAILED") == 3
    (said,) = err.splitlines()
    assert said.startswith(
        "error: vectors differ from torch's: model.onnx by 0.001 of the largest value, model_bs1.onnx"
    )
    assert said.endswith("0.0001 is allowed")


def test_verify_needs_neither_torch_nor_onnx(tiny_model_directory: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "from model_build.cli import commands; commands(sys.argv[1:])"
    )
    done = python("-c", program, "verify", str(tiny_model_directory))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok") == 3


def test_export_without_torch_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['torch'] = None\nfrom model_build.cli import commands; commands(sys.argv[1:])"
    arguments = ["export", "--checkpoint", "c", "--output", str(tmp_path / "m")]
    done = python("-c", program, *arguments)
    assert done.returncode == 1
    assert done.stderr == (
        "error: PyTorch and ONNX are not installed; install the extra `build`: pip install 'reid-service[build]'\n"
    )


def test_the_module_is_the_command() -> None:
    done = python("-m", "model_build", "--help")
    assert done.returncode == 0
    for command in ("export", "made-up-checkpoint", "verify"):
        assert command in done.stdout
