"""The guide's way end to end: `reid preprocess`, ais_bench (an imitation of its file handling), `reid index`, `reid evaluate`.

What is searched and measured must be what the pictures themselves give. No NPU takes part: ONNX Runtime computes.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.cli.main import run
from app.demo.dataset import Recipe, write_folder
from tests.ais_bench import RUN, Format, Generation, ais_bench, save

# One absent person is asked for, and nothing divides by the batch of four, so that the last batch is padded.
RECIPE = Recipe(seed=11, persons=5, distractors=3, absent=1, cameras=3, seen_by=0.9)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    counts = write_folder(RECIPE, folder)
    assert all(count % 4 for count in counts.values()), counts
    return folder


@pytest.fixture(scope="session")
def bins(drawn: Path) -> Path:
    folder = drawn.parent / "bins"
    for split, name in (("query", "query"), ("bounding_box_test", "gallery")):
        assert run(["preprocess", str(drawn / split), str(folder / name)]) == 0
    return folder


@pytest.fixture
def here(tiny_model_directory: Path, tmp_path: Path) -> list[str]:
    return ["--model", str(tiny_model_directory), "--data", str(tmp_path / "data")]


@pytest.fixture
def infer(tiny_model_directory: Path, bins: Path, tmp_path: Path) -> Callable[..., Path]:
    """Both folders through the imitation, as the guide has it; the folder `result`."""

    def both(**how: Any) -> Path:
        for name in ("query", "gallery"):
            ais_bench(tiny_model_directory / "model_bs4.onnx", bins / name, tmp_path / "result" / name, **how)
        return tmp_path / "result"

    return both


def asked(arguments: list[str], tmp_path: Path, status: int = 0) -> dict[str, Any]:
    """What a command writes as JSON."""
    path = tmp_path / "answer.json"
    assert run([*arguments, "--json", str(path)]) == status
    answer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return answer


def index(results: Path, *more: str) -> list[str]:
    return ["index", "--ais-bench", str(results), "--collection", "bench", *more]


@pytest.mark.parametrize(
    ("outfmt", "generation", "devices"),
    [
        ("TXT", "2022", (0,)),
        ("BIN", "2023", (0,)),
        ("NPY", "2024", (0,)),
        ("TXT", "2023", (0, 1)),
        ("BIN", "2024", (1, 3)),
    ],
)
def test_results_are_searched_and_measured_as_the_pictures_are(
    outfmt: Format,
    generation: Generation,
    devices: tuple[int, ...],
    drawn: Path,
    infer: Callable[..., Path],
    here: list[str],
    tmp_path: Path,
) -> None:
    results = infer(outfmt=outfmt, generation=generation, devices=devices)
    gallery, queries = drawn / "bounding_box_test", sorted(str(path) for path in (drawn / "query").iterdir())
    count = len(list(gallery.iterdir()))
    answer = asked([*index(results / "gallery", "--crops", str(gallery)), *here], tmp_path)
    assert answer["results"] == {"added": count, "unchanged": 0, "updated": 0, "refused": 0}
    assert (answer["labelled"], answer["skipped"], answer["compared"]["crops"]) == (count, 0, 8)
    assert answer["compared"]["cosine_min"] > 0.9999
    asked(["index", str(gallery), "--collection", "crops", *here], tmp_path)
    found = {
        name: asked(["search", *queries, "--collection", name, "-k", "5", *here], tmp_path)["results"]
        for name in ("bench", "crops")
    }
    for ours, theirs in zip(found["bench"], found["crops"], strict=True):
        for key in ("source", "person_id", "camera_id"):
            assert [m[key] for m in ours["matches"]] == [m[key] for m in theirs["matches"]]
        # Text keeps six decimals. Two sessions with other batch sizes differ by a few 1e-7 themselves.
        assert [m["score"] for m in ours["matches"]] == pytest.approx([m["score"] for m in theirs["matches"]], abs=1e-5)
    measured = asked(["evaluate", "--ais-bench", str(results)], tmp_path)
    expected = asked(["evaluate", str(drawn), *here[:2]], tmp_path)
    assert measured["protocols"] == expected["protocols"]
    assert measured["data"]["query"] == expected["data"]["query"]
    assert measured["data"]["gallery"] == expected["data"]["gallery"]


def test_indexing_results_again_adds_nothing(infer: Callable[..., Path], here: list[str], tmp_path: Path) -> None:
    gallery = infer() / "gallery" / RUN
    first = asked([*index(gallery), *here], tmp_path)["results"]
    again = asked([*index(gallery), *here], tmp_path)["results"]
    assert again == {"added": 0, "unchanged": first["added"], "updated": 0, "refused": 0}


def test_without_pictures_it_is_said_that_nothing_was_checked(
    infer: Callable[..., Path], here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = asked([*index(infer() / "gallery"), *here], tmp_path)
    assert answer["compared"] is None
    assert "not checked: that onnx-fp32-" in capsys.readouterr().err


def test_vectors_of_other_crops_are_refused_with_the_figure_and_nothing_is_made(
    infer: Callable[..., Path], drawn: Path, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = infer(outfmt="BIN")
    files = sorted((results / "gallery" / RUN).iterdir())
    data = [file.read_bytes() for file in files]
    for file, other in zip(files, (*data[1:], data[0]), strict=True):
        file.write_bytes(other)
    assert run([*index(results / "gallery", "--crops", str(drawn / "bounding_box_test")), *here]) == 1
    said = capsys.readouterr().err
    told = re.search(r"(\w+)\.jpg: the cosine of its result .* is (-?0\.\d{4}), at least 0\.99 is needed", said)
    assert told, said
    assert float(told[2]) < 0.99
    assert f"{told[1]}_0.bin" in [file.name for file in files]
    assert "these vectors are not of this model, or the crops are not these" in said
    assert run(["search", str(next((drawn / "query").iterdir())), "--collection", "bench", *here]) == 1
    assert "no collection 'bench'" in capsys.readouterr().err


def test_crops_that_have_no_results_compare_nothing(
    infer: Callable[..., Path], drawn: Path, here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*index(infer() / "gallery", "--crops", str(drawn / "query")), *here]) == 1
    assert "nothing could be compared" in capsys.readouterr().err


def test_what_is_not_whole_is_refused_by_name_and_the_rest_is_there(
    infer: Callable[..., Path], here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = infer(outfmt="TXT")
    gallery = results / "gallery" / RUN
    names = sorted(path.name for path in gallery.iterdir())
    cut, nan, gone, other = (gallery / name for name in names[:4])
    cut.write_bytes(cut.read_bytes()[:-40])
    nan.write_text("nan " * 128 + "\n")
    gone.unlink()
    other.write_text("1.000000 " * 127 + "\n")
    (gallery / "0099_c1_f1_0.txt").write_text("1.000000 " * 128 + "\n")  # the summary knows nothing of it
    (gallery / names[5].replace("_0.txt", "_1.txt")).write_text("1.000000 \n")  # a second output
    bad = {cut.name, nan.name, gone.name, other.name, "0099_c1_f1_0.txt"}
    answer = asked([*index(results / "gallery"), *here], tmp_path, status=1)
    assert answer["results"] == {"added": len(names) - 4, "unchanged": 0, "updated": 0, "refused": 5}
    assert answer["skipped"] == 1
    said = capsys.readouterr().err
    assert all(name.removesuffix("_0.txt") in said for name in bad)
    assert "left out: 1 files of other outputs than the first, among them" in said
    counts = asked(["evaluate", "--ais-bench", str(results)], tmp_path)["data"]["gallery"]
    assert (counts["used"], counts["skipped"], len(counts["refused"])) == (len(names) - 4, 1, 5)
    for name in bad:
        assert sum(name in sentence for sentence in counts["refused"]) == 1, name


def test_a_summary_cut_short_is_named_and_the_names_pair(
    infer: Callable[..., Path], here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = infer()
    summary = results / "gallery" / f"{RUN}_summary.json"
    summary.write_bytes(summary.read_bytes()[:-100])
    answer = asked([*index(results / "gallery" / RUN), *here], tmp_path, status=1)
    assert answer["results"]["refused"] == 1
    assert answer["results"]["added"] == answer["labelled"] > 0
    assert f"{RUN}_summary.json: not a whole summary" in capsys.readouterr().err


def test_a_moved_run_without_its_summary_is_paired_by_names(
    infer: Callable[..., Path], here: list[str], tmp_path: Path
) -> None:
    moved = shutil.move(infer() / "gallery" / RUN, tmp_path / "moved")
    answer = asked([*index(Path(moved)), *here], tmp_path)
    assert answer["results"]["added"] == answer["labelled"] > 0


def test_several_runs_are_not_mixed(
    infer: Callable[..., Path], here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    infer()
    results = infer(run="2023_01_06-09_00_00")
    assert run([*index(results / "gallery"), *here]) == 1
    assert f"2 runs in '{results / 'gallery'}': {RUN}, 2023_01_06-09_00_00" in capsys.readouterr().err
    assert run(["evaluate", "--ais-bench", str(results)]) == 1


def test_results_beside_a_run_are_not_taken_for_it(
    infer: Callable[..., Path], here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Old versions wrote into the folder itself; whichever is meant, the other is not silently left out."""
    gallery = infer(outfmt="BIN") / "gallery"
    shutil.copy(next((gallery / RUN).iterdir()), gallery)
    assert run([*index(gallery), *here]) == 1
    assert (
        f"results in '{gallery}' itself, and below it in {RUN}; give a folder with one run" in capsys.readouterr().err
    )


def test_devices_that_named_the_run_a_second_apart_are_one_run(
    infer: Callable[..., Path], here: list[str], tmp_path: Path
) -> None:
    gallery = infer(generation="2024", devices=(0, 1)) / "gallery"
    count = len(list(gallery.rglob("*.bin")))
    later = gallery / "2023_01_05-10_11_13"
    later.mkdir()
    for name in ("device1_1", "device1_1_summary.json"):
        shutil.move(gallery / RUN / name, later / name)
    assert asked([*index(gallery), *here], tmp_path)["results"]["added"] == count


def test_a_linked_run_is_followed(infer: Callable[..., Path], tmp_path: Path) -> None:
    """So is one of several runs chosen for `evaluate`."""
    results = infer()
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for name in ("query", "gallery"):
        (chosen / name).symlink_to(results / name / RUN)
    linked = asked(["evaluate", "--ais-bench", str(chosen)], tmp_path)
    assert linked["protocols"] == asked(["evaluate", "--ais-bench", str(results)], tmp_path)["protocols"]
    assert linked["data"]["folder"] == "chosen"


def test_a_run_in_two_forms_in_one_folder_has_no_results_to_believe(
    infer: Callable[..., Path], here: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of the two is of which model nobody can tell; the summary, which could, is that of the later run."""
    infer(outfmt="BIN", run="same")
    results = infer(outfmt="TXT", run="same")
    for summary in results.rglob("*_summary.json"):
        summary.unlink()
    assert run([*index(results / "gallery"), *here]) == 1
    said = capsys.readouterr().err
    assert "_0.txt: one of 2 results for one crop" in said
    assert "can be indexed (0 are junk" in said


def test_older_text_with_two_runs_in_one_file_is_refused(
    infer: Callable[..., Path], here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    infer(outfmt="TXT", generation="2022", run="same")
    results = infer(outfmt="TXT", generation="2022", run="same")
    answer = asked([*index(results / "gallery"), *here], tmp_path, status=1)
    assert answer["results"]["added"] == 0
    assert "2 lines, where one crop has one" in capsys.readouterr().err


def test_junk_and_background_count_as_they_do_in_a_folder_of_pictures(
    infer: Callable[..., Path], drawn: Path, here: list[str], tmp_path: Path
) -> None:
    """The same extra names on both ways give the same counts and figures."""
    pictures = Path(shutil.copytree(drawn, tmp_path / "set"))
    crop = next((drawn / "query").iterdir()).read_bytes()
    for split in ("query", "bounding_box_test"):
        for name in ("-1_c1_f1.jpg", "0000_c2_f1.jpg", "hat.jpg"):
            (pictures / split / name).write_bytes(crop)
    bins, results = tmp_path / "bins", tmp_path / "again"
    for split, name in (("query", "query"), ("bounding_box_test", "gallery")):
        assert run(["preprocess", str(pictures / split), str(bins / name)]) == 0
        ais_bench(Path(here[1]) / "model_bs4.onnx", bins / name, results / name)
    measured = asked(["evaluate", "--ais-bench", str(results)], tmp_path)
    expected = asked(["evaluate", str(pictures), *here[:2]], tmp_path)
    assert measured["protocols"] == expected["protocols"]
    assert [measured["data"][side] for side in ("query", "gallery")] == [
        expected["data"][side] for side in ("query", "gallery")
    ]
    assert (measured["data"]["query"]["junk"], measured["data"]["gallery"]["junk"]) == (2, 1)
    answer = asked([*index(results / "gallery"), *here], tmp_path)
    assert (answer["junk"], answer["unlabelled"]) == (1, 1)
    only = asked([*index(results / "gallery", "--pattern", "duke"), *here], tmp_path)
    assert (only["unlabelled"], only["skipped"]) == (0, 1)


def test_results_are_measured_without_a_model_and_shown_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Worked by hand: the query's own camera does not count, so the first right answer is second of two."""
    monkeypatch.setenv("REID_MODEL_DIR", str(tmp_path / "nowhere"))
    rows = {"query/0001_c1_f1": [1, 0], "gallery/0001_c1_f2": [1, 0], "gallery/0002_c1_f1": [0.9, 0.1],
            "gallery/0001_c2_f1": [0.8, 0.6], "gallery/0003_c1_f1": [1, 0, 0]}  # fmt: skip
    for name, row in rows.items():
        path = tmp_path / "result" / f"{name}_0.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, np.array([row], dtype=np.float32))
    answer = asked(["evaluate", "--ais-bench", str(tmp_path / "result")], tmp_path)
    report = answer["protocols"]["instance"]
    assert (report["mAP"], report["rank1"], report["rank5"], report["gallery"]) == (0.5, 0.0, 1.0, 3)
    assert answer["data"]["gallery"]["refused"] == ["0003_c1_f1_0.txt: 3 numbers instead of 2"]
    assert answer["model"]["fingerprint"] is None
    assert "vectors from ais_bench" in capsys.readouterr().out
