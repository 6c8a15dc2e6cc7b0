"""The compose file is one, and everything in it is of this project: profiles, settings, ports, paths, commands."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from app.settings import ANONYMOUS, Settings
from model_build.cli import commands as build
from tests.deploy.files import COMPOSE_TEXT, ROOT, VARIABLE, read_compose, read_stages

COMPOSE = read_compose()
SERVICES: dict[str, Any] = COMPOSE["services"]
SERVERS = {name: service for name, service in SERVICES.items() if name != "build"}
ASCEND = {name: service for name, service in SERVERS.items() if "ascend" in name}
ENV = (ROOT / ".env").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md")}


def mounts(service: dict[str, Any]) -> dict[str, bool]:
    """Target -> whether it may be written."""
    found = {}
    for volume in service["volumes"]:
        if isinstance(volume, dict):
            found[volume["target"]] = not volume.get("read_only", False)
        else:
            _, target, *mode = volume.split(":")
            found[target] = mode != ["ro"]
    return found


def test_it_fits_the_schema_of_compose() -> None:
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            ROOT / "docker-compose.yml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_up_without_a_profile_starts_the_cpu_server_alone() -> None:
    """A service without a profile would start in every profile, beside the one that was asked for."""
    assert all(service["profiles"] for service in SERVICES.values())
    (chosen,) = re.findall(r"^COMPOSE_PROFILES=(\w+)$", ENV, re.MULTILINE)
    assert [name for name, service in SERVICES.items() if chosen in service["profiles"]] == ["reid-cpu"]


def test_no_profile_starts_two_servers() -> None:
    """They would ask for the same port, and both Ascend ones for the same chips and data."""
    profiles = [profile for service in SERVERS.values() for profile in service["profiles"]]
    assert sorted(profiles) == ["ascend", "ascend-plain", "cpu"]


@pytest.mark.parametrize("name", SERVERS)
def test_settings_in_it_are_settings_and_are_accepted(name: str) -> None:
    given = {key: value for key, value in SERVERS[name]["environment"].items() if key.startswith("REID_")}
    names = {key: key.removeprefix("REID_").lower() for key in given}
    assert set(names.values()) <= set(Settings.model_fields)
    settings = Settings(**{names[key]: value for key, value in given.items()})
    assert settings.allow_anonymous == ANONYMOUS
    assert settings.host == "0.0.0.0"


@pytest.mark.parametrize("name", SERVERS)
def test_ports_are_published_on_this_machine_only_and_are_the_server_s(name: str) -> None:
    port = Settings.model_fields["port"].default
    assert SERVERS[name]["ports"] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_can_do_and_use_little(name: str) -> None:
    service = SERVERS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["ulimits"]["core"] == 0
    assert service["cpus"]
    assert service["mem_limit"]
    assert service["restart"] == "unless-stopped"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert not {"privileged", "network_mode", "pid", "ipc"} & set(service)


@pytest.mark.parametrize("name", SERVERS)
def test_only_data_and_snapshots_are_kept_and_only_they_are_written(name: str) -> None:
    environment, targets = SERVERS[name]["environment"], mounts(SERVERS[name])
    assert {target for target, writable in targets.items() if writable} == {
        environment["REID_DATA_DIR"],
        environment["REID_SNAPSHOT_DIR"],
    }
    assert environment["REID_MODEL_DIR"] in targets
    assert {str(v).partition(":")[0] for v in SERVERS[name]["volumes"] if str(v).startswith("reid-")} <= set(
        COMPOSE["volumes"]
    )


def test_the_default_model_of_the_cpu_server_is_there() -> None:
    (model,) = [v for v in SERVICES["reid-cpu"]["volumes"] if isinstance(v, dict)]
    assert (ROOT / model["source"] / "manifest.json").is_file()


def test_variants_do_not_share_a_gallery() -> None:
    """Vectors of an OM and of an ONNX file are never compared, and a collection is bound to one."""
    data = {name: next(str(v) for v in s["volumes"] if str(v).endswith(":/data")) for name, s in SERVERS.items()}
    assert data["reid-ascend"] == data["reid-ascend-plain"] != data["reid-cpu"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_built_from_stages_and_arguments_that_exist(name: str) -> None:
    _, stages = read_stages()
    built = SERVICES[name]["build"]
    assert built["target"] in stages
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(built["args"]) <= set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    for context, path in built.get("additional_contexts", {}).items():
        assert context in stages
        assert (ROOT / path).is_dir()


def test_the_cpu_and_ascend_images_have_names_of_their_own() -> None:
    """One name for both would have whichever was built last."""
    named = {name: service["image"] for name, service in SERVICES.items()}
    assert named["reid-ascend"] == named["reid-ascend-plain"]
    assert len(set(named.values())) == 3


def test_both_chips_of_a_duo_are_used_in_both_ways() -> None:
    for service in ASCEND.values():
        assert service["environment"]["REID_DEVICES"] == "ascend:0,ascend:1"
        assert service["environment"]["REID_VARIANT"] == "om-fp16"
    assert ASCEND["reid-ascend"]["runtime"] == "ascend"
    assert ASCEND["reid-ascend"]["environment"]["ASCEND_VISIBLE_DEVICES"] == "0,1"
    plain = ASCEND["reid-ascend-plain"]
    assert {"/dev/davinci0", "/dev/davinci1", "/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"} == set(
        plain["devices"]
    )
    assert "/usr/local/Ascend/driver/lib64" in mounts(plain)


def test_the_plain_way_is_left_alone_by_a_default_runtime_ascend() -> None:
    """That runtime acts on ASCEND_VISIBLE_DEVICES, and would mount the same files a second time."""
    plain = ASCEND["reid-ascend-plain"]
    assert plain["runtime"] == "runc"
    assert not [name for name in plain["environment"] if name.startswith("ASCEND_")]


def test_a_forgotten_group_is_named_in_the_error_and_stops_no_other_profile() -> None:
    """`${HWHIAI_GID:?...}` would refuse `up` on a machine without an NPU as well: variables come before profiles."""
    assert ":?" not in COMPOSE_TEXT
    for service in ASCEND.values():
        assert "HWHIAI_GID is not set" in service["group_add"][0]
    with_group = read_compose({"HWHIAI_GID": "1001"})["services"]["reid-ascend"]
    assert with_group["group_add"] == ["1001"]


def test_the_build_service_s_command_is_one() -> None:
    name, *arguments = SERVICES["build"]["command"]
    command: Any = typer.main.get_command(build).commands[name]  # type: ignore[attr-defined]
    parsed = command.make_context(name, list(arguments)).params
    targets = mounts(SERVICES["build"])
    assert targets == {"/model": True, "/checkpoint": False}
    assert str(parsed["output"]) == "/model"
    assert parsed["checkpoint"].parent == Path("/checkpoint")


def test_sizes_that_are_loaded_are_sizes_that_are_compiled() -> None:
    (compiled,) = [a for a in SERVICES["build"]["command"] if a.startswith("--batch-sizes=")]
    for service in ASCEND.values():
        assert compiled == f"--batch-sizes={service['environment']['REID_BATCH_SIZES']}"


def test_no_image_gets_torch_by_itself() -> None:
    assert SERVICES["build"]["build"]["args"]["TORCH_INDEX"] is None  # the shell's, or the Dockerfile's empty one
    assert 'ARG TORCH_INDEX=""' in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_every_variable_of_it_is_explained_in_env_and_nothing_else() -> None:
    used = {found[1] for found in VARIABLE.finditer(COMPOSE_TEXT)}
    used |= {name for service in SERVICES.values() for name, value in service["build"]["args"].items() if value is None}
    explained = set(re.findall(r"^# ([A-Z_]+)=", ENV, re.MULTILINE))
    assert explained == used


def test_defaults_shown_in_env_are_defaults() -> None:
    for name, shown in re.findall(r"^# ([A-Z_]+)=(\S*)", ENV, re.MULTILINE):
        defaults = {found[2] for found in VARIABLE.finditer(COMPOSE_TEXT) if found[1] == name}
        assert not defaults or shown in defaults or (not shown and name == "HWHIAI_GID"), name


def test_variables_named_like_settings_are_settings() -> None:
    """The shell's REID_VARIANT means the same to `reid` there and to the container."""
    used = {found[1] for found in VARIABLE.finditer(COMPOSE_TEXT) if found[1].startswith("REID_")}
    assert {name.removeprefix("REID_").lower() for name in used} <= set(Settings.model_fields)


def compose_lines() -> list[tuple[str, list[str]]]:
    """Every `docker compose ...` in the pages and the compose file, as its words."""
    texts = {**PAGES, "docker-compose.yml": COMPOSE_TEXT}
    found = []
    for name, text in texts.items():
        joined = re.sub(r"\$\([^)]*\)", "X", re.sub(r"\\\n\s*", "", text))
        for line in re.findall(r"docker compose ([^`\n]+)", joined):
            found.append((name, shlex.split(re.split(r"\s{2,}|\s#|\s[|]", line)[0])))
    return found


def test_docker_compose_lines_shown_name_profiles_and_services_that_exist() -> None:
    profiles = {profile for service in SERVICES.values() for profile in service["profiles"]}
    lines = compose_lines()
    assert len(lines) >= 6
    for page, words in lines:
        for flag, value in pairwise(words):
            if flag == "--profile":
                assert value in profiles, (page, words)
        verb = next((w for w in words if w in {"run", "exec", "logs", "restart", "stop"}), None)
        if verb:
            behind = " ".join(words[words.index(verb) + 1 :])
            rest = re.sub(r"--(user|volume) \S+|--[a-z]+", "", behind).split()
            assert not rest or rest[0] in SERVICES, (page, words)


def test_commands_run_in_containers_in_the_pages_parse() -> None:
    """`docker compose run --rm build compile /model ...` is a call of model_build, `exec reid-cpu reid ...` of reid."""
    shown = 0
    for page, words in compose_lines():
        if words[:3] == ["run", "--rm", "build"] and len(words) > 3:
            shown += 1
            command: Any = typer.main.get_command(build).commands[words[3]]  # type: ignore[attr-defined]
            assert command.make_context(words[3], words[4:]).params, (page, words)
    assert shown >= 1
