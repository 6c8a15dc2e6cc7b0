"""The Dockerfile keeps its promises as far as they can be read off it. What only a build shows is in docs/docker.md."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from app.cli.main import app as reid
from app.settings import Settings
from model_build.cli import commands as build
from tests.deploy.files import ROOT, Stage, read_stages

ARGUMENTS, STAGES = read_stages()
IMAGES = ("serve", "model-build")  # the stages that somebody runs
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-aclruntime.lock")
COPIES = [
    (stage.name, [word for word in text.split() if not word.startswith("--")], text)
    for stage in STAGES.values()
    for text in stage.texts("COPY")
]


def executed(stage: Stage, instruction: str) -> list[str]:
    """The words of an ENTRYPOINT or CMD, which must be in exec form: a shell would not pass signals on."""
    words = json.loads(stage.texts(instruction)[-1])
    assert isinstance(words, list)
    return [str(word) for word in words]


@pytest.mark.skipif(sys.platform != "linux", reason="hadolint is installed on Linux")
def test_hadolint_finds_nothing() -> None:
    linted = subprocess.run(
        [Path(sys.executable).parent / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert linted.stdout + linted.stderr == ""
    assert linted.returncode == 0


def test_every_image_runs_as_a_numbered_user_who_is_not_root() -> None:
    """A number, since a scheduler that refuses root cannot know what a name stands for."""
    for name in IMAGES:
        uid, gid = STAGES[name].texts("USER")[-1].split(":")
        assert int(uid) >= 1000
        assert int(gid) >= 1000


def test_bases_are_the_argument_or_a_stage_and_no_tag_moves_to_another_python() -> None:
    assert {stage.base for stage in STAGES.values()} <= {"scratch", "${BASE}", *STAGES}
    tag = ARGUMENTS["BASE"].partition(":")[2]
    assert re.match(r"3\.1[1-9]\b", tag)
    assert "latest" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_nothing_comes_from_elsewhere_but_by_pip_with_hashes() -> None:
    """The rest of pip's calls install what is there already: the project itself."""
    assert not any(stage.texts("ADD") for stage in STAGES.values())
    for stage in STAGES.values():
        for text in stage.texts("RUN"):
            assert not re.search(r"\b(curl|wget|git|apt-get|apt|dnf|yum)\b", text)
            for call in re.findall(r"pip install ([^&]+)", text):
                locked = {"--require-hashes", "--only-binary"} <= set(call.split())
                own = shlex.split(call)[-1] == "." and {"--no-deps", "--no-build-isolation"} <= set(call.split())
                assert locked or own


def test_what_serves_takes_only_the_environment_from_the_builder_and_installs_nothing() -> None:
    """No compiler and no torch in it: neither is in the base by default, and neither can come from elsewhere."""
    serve = STAGES["serve"]
    assert serve.base == "${BASE}"
    assert [text for text in serve.texts("COPY") if "--from" in text] == ["--from=trimmed /opt/reid/ /opt/reid/"]
    assert not re.search(
        r"pip|torch|gcc|g\+\+|build-essential|requirements-build", "\n".join(t for _, t in serve.steps)
    )
    for stage in ("builder", "trimmed"):
        assert "torch" not in "\n".join(text for _, text in STAGES[stage].steps)
    removed = STAGES["trimmed"].texts("RUN")[0].split()
    assert {"pip", "setuptools", "hatchling"} <= set(removed)


def test_what_is_built_without_a_target_is_what_serves() -> None:
    assert list(STAGES)[-1] == "serve"


@pytest.mark.parametrize("name", LOCKS)
def test_locks_pin_everything_by_hash_name_no_host_and_no_torch(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("==" in block.splitlines()[0] and "--hash=sha256:" in block for block in blocks)
    assert not re.search(r"^(torch|nvidia|triton)|://", text, re.MULTILINE)


def test_the_build_image_has_the_versions_that_the_server_has() -> None:
    """Else an ONNX file would be verified by another onnxruntime than the one that runs it."""

    def pinned(name: str) -> set[str]:
        return set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))

    assert pinned("requirements.lock") <= pinned("requirements-build.lock")


@pytest.mark.parametrize(("stage", "words", "text"), COPIES)
def test_what_is_copied_exists_and_reaches_the_builder(stage: str, words: list[str], text: str) -> None:
    *sources, _ = words
    if "--from=" in text:
        assert text.split(maxsplit=1)[0].removeprefix("--from=") in STAGES
        return
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    let_in = {line.removeprefix("!").rstrip("/") for line in lines if line.startswith("!")}
    for source in sources:
        assert (ROOT / source).exists()
        assert Path(source).parts[0] in let_in


def test_what_an_image_runs_is_in_it() -> None:
    """Files of ours that a command names were copied there, and the rest lies in the environment."""
    for name in IMAGES:
        stage = STAGES[name]
        words = executed(stage, "ENTRYPOINT") + executed(stage, "CMD")
        words += [word for text in stage.texts("HEALTHCHECK") for word in re.findall(r'"([^"]+)"', text)]
        copied = {f"/opt/reid/{Path(source).name}" for text in stage.texts("COPY") for source in text.split()[:-1]}
        for word in words:
            if word.startswith("/opt/reid/"):
                assert word in copied | {"/opt/reid/bin/python"}
    assert {"deploy/reid", "/usr/local/bin/"} <= set(" ".join(STAGES["serve"].texts("COPY")).split())


def test_scripts_may_be_run_by_the_user_whatever_the_checkout_s_rights() -> None:
    """COPY keeps modes: files checked out under the umask 077 would be root's alone."""
    for name in IMAGES:
        copied = [text for text in STAGES[name].texts("COPY") if " deploy/with-cann.sh" in text or "/bin/" in text]
        assert copied
        assert all(text.startswith("--chmod=0755 ") for text in copied)


def test_the_commands_of_both_images_are_commands() -> None:
    program, command = executed(STAGES["serve"], "CMD")
    assert program == "reid"
    assert command in typer.main.get_command(reid).commands  # type: ignore[attr-defined]
    entry = executed(STAGES["model-build"], "ENTRYPOINT")
    assert entry[-2:] == ["-m", "model_build"]
    assert "compile" in typer.main.get_command(build).commands  # type: ignore[attr-defined]


def test_the_base_image_has_no_entry_point_left() -> None:
    """A CANN image has one of its own, which `docker exec` and HEALTHCHECK would not pass through."""
    assert executed(STAGES["serve"], "ENTRYPOINT") == []


def test_settings_and_port_in_the_image_are_the_service_s() -> None:
    serve = STAGES["serve"]
    variables = re.findall(r"\b(REID_[A-Z_]+)=", "\n".join(serve.texts("ENV")))
    assert {name.removeprefix("REID_").lower() for name in variables} <= set(Settings.model_fields)
    assert serve.texts("EXPOSE") == [str(Settings.model_fields["port"].default)]


def test_an_image_alone_listens_on_loopback_only() -> None:
    """Keys or an address on purpose: `docker run -p` without either must not open a gallery to the network."""
    assert "REID_HOST" not in "\n".join(STAGES["serve"].texts("ENV"))
    assert "REID_ALLOW_ANONYMOUS" not in "\n".join(STAGES["serve"].texts("ENV"))


def test_the_health_check_is_in_exec_form_and_asks_for_readiness() -> None:
    (text,) = STAGES["serve"].texts("HEALTHCHECK")
    command = json.loads(text.partition("CMD ")[2])
    assert command == ["/opt/reid/bin/python", "-I", "/opt/reid/health.py", "readyz"]


def test_the_directories_of_data_and_snapshots_belong_to_the_user() -> None:
    """A new named volume takes over owner and mode of the folder that it is mounted on."""
    made = "\n".join(STAGES["serve"].texts("RUN"))
    assert "--owner=10001 --group=10001 --mode=0700 /data /snapshots" in made
    assert "REID_DATA_DIR=/data REID_SNAPSHOT_DIR=/snapshots" in "\n".join(STAGES["serve"].texts("ENV"))


def test_no_image_reports_to_anybody() -> None:
    """ONNX Runtime's wheels do by default, with an identifier that they keep in the home folder."""
    for name in IMAGES:
        assert "ORT_DISABLE_TELEMETRY=1" in STAGES[name].texts("ENV")[-1].split()


def test_a_wheel_put_in_its_folder_is_not_committed() -> None:
    assert "/wheels/*.whl" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
