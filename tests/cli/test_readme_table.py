"""The figures in README are those of the demo data: drawn, embedded and ranked anew."""

import re
from pathlib import Path

import pytest

from app.cli.main import run

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^ *(instance|centroid\w*) +(.+)$", re.MULTILINE)


def rows(text: str) -> dict[str, list[float]]:
    """Protocol -> the numbers of its row."""
    return {name: [float(number) for number in re.findall(r"\d+(?:\.\d+)?", rest)] for name, rest in ROW.findall(text)}


def test_the_demo_datas_table_is_what_its_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["demo", "demo"]) == 0
    capsys.readouterr()
    assert run(["evaluate", "demo/data"]) == 0
    printed = capsys.readouterr().out
    shown = README[README.index("$ reid evaluate demo/data") :]
    documented, found = rows(shown[: shown.index("\n\n")]), rows(printed)
    assert set(documented) == set(found)
    for name, numbers in documented.items():
        # Another CPU sums in another order, and a near tie may turn: a tenth or two of a per cent of 240 queries.
        assert found[name] == pytest.approx(numbers, abs=0.5), name
    said = re.search(r"of (\d+) searches for\s+people who are not in the gallery ([\d.]+) % were a match", README)
    assert said
    assert f"of {said[1]} searches for somebody who is not 0.8" in printed
    assert float(said[2]) == pytest.approx(0.82, abs=0.05)
