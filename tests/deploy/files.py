"""What the tests of Dockerfile and compose file share: both files, read."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it: pairs of an instruction and its text."""

    name: str
    base: str
    steps: tuple[tuple[str, str], ...]

    def texts(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]


def read_stages() -> tuple[dict[str, str], dict[str, Stage]]:
    """Arguments before the first FROM with their defaults, and the stages by name, in order."""
    parser = DockerfileParser(fileobj=io.BytesIO((ROOT / "Dockerfile").read_bytes()))
    pairs = [(s["instruction"], s["value"]) for s in parser.structure if s["instruction"] != "COMMENT"]
    starts = [number for number, (instruction, _) in enumerate(pairs) if instruction == "FROM"]
    arguments = dict(text.split("=", 1) for name, text in pairs[: starts[0]] if name == "ARG")
    stages = {}
    for start, end in zip(starts, [*starts[1:], len(pairs)], strict=True):
        base, _, name = pairs[start][1].split()
        stages[name] = Stage(name, base, tuple(pairs[start + 1 : end]))
    return arguments, stages


def interpolated(node: Any, given: Mapping[str, str] = {}) -> Any:
    """The node as `docker compose` sees it: ${NAME:-default} put in for each variable that is not given."""
    if isinstance(node, dict):
        return {key: interpolated(value, given) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value, given) for value in node]
    if isinstance(node, str):
        return VARIABLE.sub(lambda found: given.get(found[1], found[2] or ""), node)
    return node


def read_compose(given: Mapping[str, str] = {}) -> dict[str, Any]:
    """The compose file with its defaults, or with some variables given."""
    read = interpolated(yaml.safe_load(COMPOSE_TEXT), given)
    assert isinstance(read, dict)
    return read
