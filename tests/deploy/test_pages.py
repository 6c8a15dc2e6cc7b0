"""docs/docker.md and docs/atlas.md say what the files, the tables of codes and the arithmetic say."""

import re
from typing import Any

import pytest
import typer

from app.adapters.ascend.codes import CODES
from app.cli.main import app as reid
from tests.deploy.files import COMPOSE_TEXT, ROOT, VARIABLE

ATLAS = (ROOT / "docs" / "atlas.md").read_text(encoding="utf-8")
DOCKER = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
PAGES = {"atlas.md": ATLAS, "docker.md": DOCKER, "wheels": (ROOT / "wheels" / "README.md").read_text(encoding="utf-8")}
# Images/s of one Ascend310P3 by batch size, from the closing table of Huawei's ModelZoo guide for centroids-reid.
GUIDE = {1: 1542, 4: 3715, 8: 4287, 16: 3454, 32: 3571, 64: 2231}


def test_every_code_that_the_service_explains_is_in_the_operator_s_table() -> None:
    rows = re.findall(
        r"^\| (-?\d+(?:, \d+)*) \| ([^|]+) \| ([^|]+) \|$", ATLAS[ATLAS.index("## Trouble") :], re.MULTILINE
    )
    shown = [int(code) for codes, *_ in rows for code in codes.split(",")]
    assert sorted(shown) == sorted(CODES)


def test_sizing_follows_from_the_guide_s_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|", ATLAS, re.MULTILINE)
    assert {int(batch): int(rate) for batch, rate, *_ in rows} == GUIDE
    for batch, rate, batch_ms, crop_ms in rows:
        assert float(batch_ms) == round(1000 * int(batch) / int(rate), 2)
        assert float(crop_ms) == round(1000 / int(rate), 2)


@pytest.mark.parametrize("page", PAGES)
def test_build_arguments_and_contexts_shown_exist(page: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    known = set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    assert set(re.findall(r"--build-arg (\w+)=", PAGES[page])) <= known
    assert set(re.findall(r"--build-context ([\w-]+)=", PAGES[page])) <= set(re.findall(r" AS ([\w-]+)", dockerfile))
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", DOCKER, re.MULTILINE))
    assert table == known


def test_variables_shown_for_env_are_variables_of_the_compose_file() -> None:
    known = {found[1] for found in VARIABLE.finditer(COMPOSE_TEXT)} | {"COMPOSE_PROFILES"}
    shown = set(re.findall(r"^    ([A-Z_]+)=\S+$", ATLAS, re.MULTILINE))
    assert {"COMPOSE_PROFILES", "HWHIAI_GID"} <= shown <= known


def test_commands_run_in_our_images_exist_with_their_options() -> None:
    commands: Any = typer.main.get_command(reid)
    lines = re.findall(r"(?:reid-service:\w+|exec reid-\w+) reid ([a-z]+)([^\n`]*)", ATLAS + DOCKER)
    assert len(lines) >= 4
    for name, rest in lines:
        known = {option for parameter in commands.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= known


def test_paths_of_the_repository_named_in_the_pages_exist() -> None:
    for page in PAGES.values():
        for path in re.findall(r"`(deploy/[\w./-]+|requirements[\w.-]+)`", page):
            assert (ROOT / path).exists(), path


def test_both_pages_say_what_has_not_been_run() -> None:
    assert "**Nothing on this page has run on a real NPU" in ATLAS
    assert "**What was not run:** anything on Docker Engine" in DOCKER
