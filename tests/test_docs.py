"""README and docs/ say what is true: every route, command, option and setting is there, and nothing that is not."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from app.api import searching
from app.cli.main import app as reid
from app.settings import Settings
from model_build.cli import commands as build

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}


def commands_of(app: typer.Typer) -> dict[str, set[str]]:
    """Command -> its options."""
    group: Any = typer.main.get_command(app)  # a click group; typer carries its own click
    return {name: options_of(command) for name, command in group.commands.items()}


def options_of(command: Any) -> set[str]:
    if hasattr(command, "commands"):  # a group: those of all its commands
        return set().union(*map(options_of, command.commands.values()))
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


REID, BUILD = commands_of(reid), commands_of(build)


def code_lines(text: str) -> list[str]:
    """Lines of indented or fenced code, with continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.strip().removeprefix("$ ") for line in joined.splitlines() if line.startswith(("    ", "$ "))]


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    row = re.search(rf"^\| `REID_{name.upper()}` \| ([^|]+) \|", PAGES["settings.md"], re.MULTILINE)
    assert row, name
    default = Settings.model_fields[name].default
    if isinstance(default, int | float) or name in ("host", "variant", "log_level"):
        assert row[1] == str(default)


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {f"REID_{name.upper()}" for name in Settings.model_fields}
    for page in (README, *PAGES.values()):
        assert set(re.findall(r"REID_[A-Z_]+[A-Z]", page)) <= known | {"REID_PROT"}  # the example of a typing error


@pytest.mark.parametrize("command", sorted(REID))
def test_every_command_and_option_is_documented(command: str) -> None:
    shared = {"--url", "--model", "--data", "--json"}
    rows = re.findall(rf"^\| `reid {command}\b[^-].*$", PAGES["commands.md"], re.MULTILINE)  # a group has one for each
    assert rows
    documented = set(re.findall(r"--[a-z-]+", "\n".join(rows)))
    assert documented == {o for o in REID[command] if not o.startswith("--no-")} - shared


@pytest.mark.parametrize("command", sorted(BUILD))
def test_every_build_command_is_documented(command: str) -> None:
    row = next(line for line in PAGES["commands.md"].splitlines() if f"model_build {command}" in line)
    assert set(re.findall(r"--[a-z-]+", row)) == {o for o in BUILD[command] if not o.startswith("--no-")}


def test_commands_shown_exist_with_their_options() -> None:
    shown = 0
    for line in [line for page in (README, *PAGES.values()) for line in code_lines(page)]:
        for program, known in (("reid", REID), (r"python -m app", REID), (r"python -m model_build", BUILD)):
            if found := re.match(rf"(?:[A-Z_]+=\S* )*(?:\.venv[a-z-]*/bin/)?{program} ([a-z-]+)(.*)", line):
                shown += 1
                assert found[1] in known, line
                assert set(re.findall(r"(?<=\s)--[a-z-]+", found[2])) <= known[found[1]], line
    assert shown >= 8


def test_make_targets_shown_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    pages = "\n".join((README, *PAGES.values()))
    shown = set(re.findall(r"`make ([a-z]+)`|^    make ([a-z]+)", pages, re.MULTILINE))
    assert {"run", "test", "dev"} <= {quoted or indented for quoted, indented in shown} <= targets


def test_links_between_pages_lead_somewhere() -> None:
    for base, page in ((ROOT, README), *((ROOT / "docs", text) for text in PAGES.values())):
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page):
            assert (base / target).exists(), target
            if anchor:
                linked = (base / target).read_text(encoding="utf-8") if target else page
                assert anchor in {anchor_of(heading) for heading in re.findall(r"^#+ (.+)$", linked, re.MULTILINE)}


def anchor_of(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_the_answer_shown_in_readme_has_the_fields_of_an_answer() -> None:
    example = README[README.index('{"matches"') :].split("\n\n")[0]
    assert set(searching.MatchOut.model_fields) <= set(re.findall(r'"(\w+)":', example))
    assert set(searching.SearchAnswer.model_fields) <= set(re.findall(r'"(\w+)":', example))


def test_every_page_is_reached_from_readme() -> None:
    assert {name for name in PAGES if f"docs/{name}" not in README} == set()
