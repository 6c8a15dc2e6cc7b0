import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.adapters.model_directory import ModelDirectory, sha256_of
from app.core.manifest import MANIFEST_FILE, parse_manifest
from app.demo.dataset import Recipe, write_folder
from model_build.cli import commands
from model_build.cli.options import batch_sizes
from model_build.cli.output import stoppable
from tests import standins

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def python(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env=env)


def without(*modules: str) -> str:
    """The command line as a program in which these modules cannot be imported."""
    missing = "".join(f"sys.modules[{module!r}] = None; " for module in modules)
    return f"import sys; {missing}from model_build.cli import commands; commands(sys.argv[1:])"


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
        ["compile"],
        ["compile", "m", "--soc-version", "310P3"],
        ["compile", "m", "--soc-version", "Ascend310P3", "--batch-sizes", "1,two"],
        ["compile", "m", "--soc-version", "Ascend310P3", "--timeout-minutes", "0"],
        ["all", "--checkpoint", "c", "--soc-version", "Ascend310P3"],
        ["quantize", "m"],
        ["quantize", "m", "--calibration", "c", "--method", "entropy"],
        ["quantize", "m", "--calibration", "c", "--crops", "15"],
        ["openvino", "m", "--precision", "fp16"],
        ["openvino", "m", "--max-loss", "2"],
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
    done = python("-c", without("torch", "onnx"), "verify", str(tiny_model_directory))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok") == 3


def test_export_without_torch_says_what_to_install(tmp_path: Path) -> None:
    arguments = ["export", "--checkpoint", "c", "--output", str(tmp_path / "m")]
    done = python("-c", without("torch"), *arguments)
    assert done.returncode == 1
    assert done.stderr == (
        "error: PyTorch and ONNX are not installed; install the extra `build`: pip install 'reid-service[build]'\n"
    )


def test_the_module_is_the_command() -> None:
    done = python("-m", "model_build", "--help")
    assert done.returncode == 0
    for command in ("export", "made-up-checkpoint", "verify", "compile", "all"):
        assert command in done.stdout


# With ATC, npu-smi and aclruntime: the stand-ins of tests/standins, in processes of their own


@pytest.fixture
def model(tiny_model_directory: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model_directory, tmp_path / "model")


def test_all_on_a_pretended_host_leads_to_verified_oms(checkpoint: Path, tmp_path: Path) -> None:
    host = standins.environment(tmp_path, atc={}, npu_smi={"layout": "duo"}, acl={})
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "model"), "--batch-sizes", "1,4"]
    done = python("-m", "model_build", "all", *arguments, env=host)
    assert done.returncode == 0, done.stderr
    described = ModelDirectory.open(tmp_path / "model").manifest
    assert described.verification["om-fp16"].cosine_min > 0.9999
    assert {om.compiled.soc_version for om in described.artefacts if om.compiled} == {"Ascend310P3"}
    done = python("-m", "model_build", "verify", str(tmp_path / "model"), env=host)
    assert done.returncode == 0, done.stderr
    said = f"{tmp_path}/model: whole, and all 3 ONNX files give torch's vectors; 2 of fewer bits give theirs within rounding"
    assert done.stdout.splitlines()[-1] == said


@pytest.mark.parametrize(("sizes", "said"), [("3", "no OM for 3"), ("1,3,64", "no OM for 3, 64")])
def test_bench_refuses_sizes_that_no_om_has(
    sizes: str, said: str, om_model_directory: Path, atlas_host: Callable[..., None]
) -> None:
    atlas_host(npu_smi={})
    status, out, err = run("bench", om_model_directory, "--batch-sizes", sizes)
    assert (status, out, err) == (1, "", f"error: --batch-sizes: {said}; there are 1, 2, 4, 8\n")


def test_bench_measures_the_oms_on_the_chip_and_the_graph_where_there_is_none(
    om_model_directory: Path, atlas_host: Callable[..., None]
) -> None:
    told = ["--loop", 1, "--format", "json", "--batch-sizes", "4"]
    atlas_host(npu_smi={"layout": "duo"}, acl={"compute": "made-up"})
    status, out, _ = run("bench", om_model_directory, "--chip", 1, *told)
    measured = [(line["device"], line["variant"], line["batch_size"]) for line in json.loads(out)["lines"]]
    assert (status, measured) == (0, [("ascend:1", "om-fp16", 4), ("ascend:1", "om-fp16-aipp", 4)])
    atlas_host(npu_smi={"layout": "none"})
    status, out, err = run("bench", om_model_directory, *told)
    measured = [(line["device"], line["variant"], line["batch_size"]) for line in json.loads(out)["lines"]]
    assert (status, measured) == (0, [("cpu", "onnx-fp32", 4)])
    assert err.startswith("no NPU (npu-smi info shows no chip")


def test_verify_says_which_oms_it_cannot_run(model: Path, tmp_path: Path) -> None:
    host = standins.environment(tmp_path, atc={}, npu_smi={})
    done = python("-m", "model_build", "compile", str(model), "--batch-sizes", "4", env=host)
    assert done.returncode == 0, done.stderr
    done = python("-c", without("aclruntime"), "verify", str(model))
    assert (done.returncode, done.stderr) == (0, "model_bs4.om is not verified: aclruntime is not installed here\n")
    assert done.stdout.splitlines()[-1] == f"{model}: whole, and all 3 ONNX files give torch's vectors"


def test_compile_needs_no_torch_and_onnx_only_for_sizes_that_were_not_exported(model: Path, tmp_path: Path) -> None:
    host = standins.environment(tmp_path, atc={}, npu_smi={})
    exported = ["compile", str(model), "--batch-sizes", "1,4"]
    done = python("-c", without("torch", "onnx"), *exported, env=host)
    assert (done.returncode, done.stdout) == (
        0,
        f"{model}: om-fp16 for Ascend310P3: model_bs1.om, model_bs4.om; 2 made now\n",
    ), done.stderr
    done = python("-c", without("torch"), "compile", str(model), "--batch-sizes", "8", env=host)
    assert done.returncode == 0, done.stderr
    done = python("-c", without("torch", "onnx"), "compile", str(model), "--batch-sizes", "16", env=host)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: there is no ONNX file of batch size 16, and without the package onnx none can be derived: "
        "pip install onnx, or export with --batch-sizes 16"
    )


def test_a_dry_run_is_a_shell_script_and_needs_no_host(model: Path) -> None:
    arguments = ["--soc-version", "Ascend310P3", "--batch-sizes", "4,8", "--aipp", "--dry-run"]
    before = sorted(model.iterdir())
    status, out, err = run("compile", model, *arguments)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:3] == [f"cd {model}", "cat > aipp.cfg <<'END'", "aipp_op {"]
    options = "--input_format=NCHW --soc_version=Ascend310P3 --insert_op_conf=aipp.cfg"
    assert lines[-3:] == [
        f"atc --framework=5 --model=model_bs4.onnx --output=model_bs4_aipp --input_shape=input:4,3,256,128 {options}",
        "# model_bs8.onnx is not there; it is derived from model.onnx",
        f"atc --framework=5 --model=model_bs8.onnx --output=model_bs8_aipp --input_shape=input:8,3,256,128 {options}",
    ]
    assert sorted(model.iterdir()) == before


def test_the_script_of_a_dry_run_compiles(model: Path, tmp_path: Path) -> None:
    host = standins.environment(tmp_path, atc={})
    _, out, _ = run("compile", model, "--soc-version", "Ascend310P3", "--batch-sizes", "1,4", "--aipp", "--dry-run")
    subprocess.run(["sh", "-e"], input=out, env=host, text=True, check=True, capture_output=True)
    assert {file.name for file in model.glob("*.om")} == {"model_bs1_aipp.om", "model_bs4_aipp.om"}


@pytest.mark.parametrize(
    ("npu_smi", "said"),
    [
        ({"names": ["310P3", "310P1"]}, "several kinds of chip, Ascend310P1, Ascend310P3: name one with --soc-version"),
        ({"layout": "none"}, "npu-smi info shows no chip (status 187); it says: "),
    ],
)
def test_a_chip_that_cannot_be_told_has_to_be_named(
    npu_smi: dict[str, object], said: str, model: Path, tmp_path: Path
) -> None:
    host = standins.environment(tmp_path, npu_smi=npu_smi)
    done = python("-m", "model_build", "compile", str(model), env=host)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert said in sentence
    assert "--soc-version" in sentence


@pytest.mark.parametrize("command", ["compile", "all"])
def test_without_atc_the_sentence_says_what_to_source(command: str, model: Path) -> None:
    given = [str(model)] if command == "compile" else ["--checkpoint", "c", "--output", str(model)]
    bare = {"PATH": "/usr/bin:/bin"}
    done = python("-m", "model_build", command, *given, "--soc-version", "Ascend310P3", env=bare)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: atc is not on the PATH")
    assert "set_env.sh" in sentence


def test_a_signal_that_ends_the_command_ends_atc_too(model: Path, tmp_path: Path) -> None:
    host = standins.environment(tmp_path, atc={"mode": "hang", "children": True}, npu_smi={})
    command = [sys.executable, "-m", "model_build", "compile", str(model), "--batch-sizes", "1"]
    with subprocess.Popen(command, cwd=ROOT, env=host, stderr=subprocess.PIPE, text=True) as process:
        pid = wait_for(lambda: next((f.read_text() for f in model.glob(".partial-*/atc-*/kernel_meta/child.pid")), ""))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM
    assert wait_for(lambda: "gone" if not Path(f"/proc/{pid}/cmdline").read_bytes() else "")
    assert list(model.glob(".partial-*")) == []
    ModelDirectory.open(model)


def wait_for(look: Callable[[], str]) -> str:
    """What `look` finds, within 30 s. A process that is not there any more has no command line either."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if found := look():
                return found
        except FileNotFoundError:
            return "gone"
        time.sleep(0.02)
    raise TimeoutError


def test_a_command_under_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stoppable():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    write_folder(Recipe(seed=3, persons=8, distractors=4, cameras=3), tmp_path / "people")
    return tmp_path / "people"


def test_quantize_and_openvino_add_variants_and_say_what_they_cost(model: Path, people: Path) -> None:
    crops, lenient = people / "bounding_box_test", ["--labelled", people, "--max-loss", 1]
    status, out, err = run("quantize", model, "--calibration", crops, "--method", "minmax", "--crops", 16, *lenient)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{model}: onnx-int8, ranges by minmax of 16 crops"
    assert re.fullmatch(r"cosine to fp32 at least 0\.9[89]\d\d, 0\.99\d\d in the mean; for .* the same one", lines[1])
    assert [line.split()[0] for line in lines[3:6]] == ["fp32", "variant", "change"]
    assert lines[6] == "20 queries, 24 gallery crops of a labelled folder, protocol instance"
    status, out, err = run("openvino", model, "--precision", "fp32", *lenient)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == f"{model}: openvino-fp32"
    assert set(ModelDirectory.open(model).manifest.variants) == {"onnx-fp32", "onnx-int8", "openvino-fp32"}
    status, out, _ = run("verify", model)
    assert status == 0
    assert out.splitlines()[-1].endswith("ONNX files give torch's vectors; 1 of fewer bits give theirs within rounding")


def test_a_variant_that_loses_too_much_is_one_sentence_and_status_1(model: Path, people: Path) -> None:
    before = sorted(model.iterdir())
    black = people.parent / "black"
    black.mkdir()
    for number in range(16):  # crops that show nothing: ranges told from them hold no person
        Image.new("RGB", (64, 128), (number, 0, 0)).save(black / f"{number}.png")
    lenient = ["--labelled", people, "--max-loss", 1]
    status, out, err = run("quantize", model, "--calibration", black, *lenient)
    assert (status, out) == (1, "")
    assert re.fullmatch(
        r"error: onnx-int8 is not written: the mean cosine to fp32 is 0\.\d+ \(0\.99 is needed\); .*\n", err
    )
    assert sorted(model.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quantize", "--calibration", "nowhere"], "error: nowhere cannot be read: No such file or directory\n"),
        (
            ["quantize", "--calibration", "."],
            "error: . has 0 different pictures; at least 16 are needed to tell ranges\n",
        ),
        (["openvino", "--labelled", "nowhere"], "error: nowhere/query cannot be read"),
    ],
)
def test_folders_that_do_not_do_are_one_sentence(
    arguments: list[str], said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *options = arguments
    status, out, err = run(command, model, *options)
    assert (status, out) == (1, "")
    assert err.startswith(said)


def test_without_openvino_the_command_says_what_to_install(model: Path, people: Path) -> None:
    done = python("-c", without("openvino"), "openvino", str(model), "--labelled", str(people))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: OpenVINO is not installed; install the extra `openvino`: pip install 'reid-service[openvino]'\n"
    )


def test_bench_measures_each_variant_of_the_cpu(fast_model_directory: Path) -> None:
    status, out, _ = run("bench", fast_model_directory, "--batch-sizes", 1, "--loop", 1, "--format", "json")
    assert status == 0
    variants = ModelDirectory.open(fast_model_directory).manifest.variants
    assert [line["variant"] for line in json.loads(out)["lines"]] == list(variants)
    assert {"onnx-fp32", "onnx-int8", "openvino-fp32"} <= set(variants)
