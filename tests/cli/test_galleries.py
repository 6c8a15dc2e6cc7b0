"""Persons, archives and a new model from the command line."""

import json
from pathlib import Path

import pytest

from app.cli.main import run
from app.demo.dataset import Recipe, write_folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_folder(Recipe(seed=4, persons=4, distractors=0, cameras=2), folder)
    return folder / "bounding_box_test"


@pytest.fixture
def here(tiny_model_directory: Path, tmp_path: Path, drawn: Path) -> list[str]:
    """A data directory with the collection `lobby`, which keeps its crops."""
    options = ["--model", str(tiny_model_directory), "--data", str(tmp_path / "data")]
    assert run(["index", str(drawn), "--collection", "lobby", "--keep-crops", *options]) == 0
    return options


def persons(here: list[str], tmp_path: Path, collection: str = "lobby") -> dict[str, int]:
    answer = tmp_path / "persons.json"
    assert run(["persons", "list", "--collection", collection, "--json", str(answer), *here]) == 0
    return {one["person_id"]: one["items"] for one in json.loads(answer.read_text())["persons"]}


def test_persons_are_merged_and_parted_again(
    here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = persons(here, tmp_path)
    one, other = list(before)[:2]
    assert run(["persons", "merge", one, other, "--collection", "lobby", *here]) == 0
    assert persons(here, tmp_path)[other] == before[one] + before[other]
    assert run(["persons", "undo", "--collection", "lobby", *here]) == 0
    assert persons(here, tmp_path) == before
    assert run(["persons", "rename", one, "anna", "--collection", "lobby", *here]) == 0
    assert persons(here, tmp_path)["anna"] == before[one]
    assert run(["persons", "list", "--collection", "lobby", *here]) == 0
    assert "anna" in capsys.readouterr().out


def test_a_collection_goes_out_and_comes_in_under_another_name(here: list[str], tmp_path: Path) -> None:
    file = tmp_path / "lobby.tar"
    assert run(["export", "lobby", str(file), *here]) == 0
    assert run(["import", str(file), "--collection", "hall", *here]) == 0
    assert persons(here, tmp_path, "hall") == persons(here, tmp_path)
    assert run(["reembed", "lobby", "--into", "lobby-2", *here]) == 0
    assert persons(here, tmp_path, "lobby-2") == persons(here, tmp_path)


def test_what_was_refused_is_written_to_a_report(here: list[str], drawn: Path, tmp_path: Path) -> None:
    folder, report = tmp_path / "some", tmp_path / "refused.tsv"
    folder.mkdir()
    (folder / "0001_c1_f1.jpg").write_bytes(sorted(drawn.iterdir())[0].read_bytes())
    (folder / "0002_c1_f1.jpg").write_bytes(b"no picture")
    assert run(["index", str(folder), "--collection", "some", "--report", str(report), *here]) == 1
    name, sentence = report.read_text().rstrip("\n").split("\t")
    assert (name, "0002_c1_f1.jpg" in sentence) == ("0002_c1_f1.jpg", True)
