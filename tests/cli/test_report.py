"""`reid evaluate --html`: one page that holds what the table holds, asks nobody, and shows only what it may."""

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.cli.bench.evaluate import Size, made_up
from app.cli.main import run
from app.cli.report import write_html
from app.cli.report.curves import Point, det_of
from app.cli.report.pictures import HEIGHT, Pictures
from app.core.accuracy import measure
from app.core.accuracy_report import as_json, data_json, no_agreement
from app.core.records import Label
from app.core.splits import Sides, Split, SplitCounts, sides_of

HOSTILE = """<script>alert(1)</script>" onload='x' &amp;"""


class Page(HTMLParser):
    """Tags with their attributes, table rows as texts, and all text in one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += f" {data}" if self.rows[-1][-1] else data

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row[0] == first)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def sides(query_name: str = "q.jpg", first_name: str = "b.jpg", person: str = "anna", camera: str = "1") -> Sides:
    """A query of `person`, whose other crop stands behind bert's: average precision 1/2."""
    query = Split(np.array([[2, 0]], np.float32), [Label(person, camera)], [query_name])
    vectors = np.array([[5, 1], [1, 1]], np.float32)
    return sides_of(query, Split(vectors, [Label("bert", "10"), Label(person, "2")], [first_name, "a.jpg"]))


def answer_of(evaluated: Sides, folder: str = "lobby", **model: Any) -> dict[str, Any]:
    """As POST /v1/evaluate answers."""
    counts, accuracy = SplitCounts(len(evaluated.gallery.pids), 0, 0, ()), measure(evaluated)
    return as_json(accuracy) | {
        "data": data_json(accuracy, counts, counts, "order of names", folder=folder),
        "model": {"label": "a model", "variant": "onnx-fp32", "fingerprint": "onnx-fp32-0", "batch_size": None} | model,
        "index_agreement": no_agreement("a folder's crops are in no collection"),
        "timings_ms": {"rank": 1200.0},
    }


def page_of(tmp_path: Path, answer: dict[str, Any], folder: Path | None = None) -> Page:
    write_html(tmp_path / "report.html", answer, folder)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def many() -> dict[str, Any]:
    """An answer with everything in it: 80 persons are enough for a calibration."""
    query, gallery = made_up(Size(queries=160, gallery=440, dim=48, persons=80, distractors=30, cameras=4))
    texts = [str(number) for number in range(110)]
    return answer_of(Sides(query, gallery, texts, texts[:4]))


def picture(path: Path, size: tuple[int, int] = (64, 128)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path, "JPEG")


def data_set(root: Path) -> Path:
    """The files of `sides()`."""
    for name in ("query/q.jpg", "bounding_box_test/a.jpg", "bounding_box_test/b.jpg"):
        picture(root / name)
    return root


def test_the_page_holds_the_figures_of_the_table(tmp_path: Path) -> None:
    answer = answer_of(sides())
    answer["protocols"]["instance"]["published"] = [{"rank1": 0.939, "mAP": 0.854, "source": "somebody, 2020"}]
    answer["protocols"]["centroid_published"]["over_orders"] = {"mAP": [0.5, 0.75], "rank1": [0.25, 1.0], "orders": 6}
    answer["omitted"] = {"centroid_any_camera": "for a reason"}
    page = page_of(tmp_path, answer)
    # One query: mAP 1/2, not first but second; resampled it is always itself.
    figures = ["50.0", "50.0 to 50.0", "0.0", "0.0 to 0.0", "100.0", "100.0", "100.0", "100.0", "50.0", "1 of 1", "2"]
    assert page.row("instance") == ["instance", *figures]
    assert "rank-1 0.0 %, mAP 50.0 %" in page.text
    assert "Published: rank-1 93.9 %, mAP 85.4 % (somebody, 2020)." in page.text
    assert "over 6 orders rank-1 is 25.0 to 100.0 %, mAP 50.0 to 75.0 %" in page.text
    assert "for a reason" in page.text
    assert answer["protocols"]["instance"]["what"] in page.text
    assert "the guide's 0.968 is of DukeMTMC-reID" in page.text


def test_cameras_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    page = page_of(tmp_path, answer_of(sides()))
    assert page.row("query \\ gallery")[1:] == ["2", "10"]
    assert page.row("1")[1:] == ["100.0 mAP 100.0 n 1", "-"]  # bert's camera has no crop of anna


def test_right_and_wrong_are_told_in_words(tmp_path: Path) -> None:
    page = page_of(tmp_path, answer_of(sides()))
    entries = [attributes["class"] for attributes in page.of("li")]
    assert entries == ["query", "wrong", "right"]
    assert "1 ✗ wrong" in page.text
    assert "2 ✓ right" in page.text
    assert "Names alone" in page.text
    assert page.of("img") == []


def test_what_the_data_say_is_text(tmp_path: Path) -> None:
    answer = answer_of(sides(HOSTILE, HOSTILE, HOSTILE, HOSTILE), folder=HOSTILE, label=HOSTILE)
    answer["data"]["query"]["refused"] = [HOSTILE]
    answer["omitted"] = {HOSTILE: HOSTILE}
    answer["protocols"][HOSTILE] = answer["protocols"].pop("centroid")
    page = page_of(tmp_path, answer)
    assert page.of("script") == []
    assert {name for _, attributes in page.tags for name in attributes if name.startswith("on")} == set()
    # title, heading, model, row, term, figure, head and row of cameras, person, card of the query and of the wrong row
    assert page.text.count(HOSTILE) >= 10


def test_a_name_that_is_no_text_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    assert "a?.jpg" in page_of(tmp_path, answer_of(sides("a\udcff.jpg"))).text  # as Linux gives a byte 255 in a name


def test_the_page_asks_nobody(tmp_path: Path, many: dict[str, Any]) -> None:
    root = data_set(tmp_path / "set")
    for answer, folder in ((many, None), (answer_of(sides()), root)):
        page = page_of(tmp_path, answer, folder)
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        addresses = [a[key] for _, a in page.tags for key in ("src", "href", "srcset", "data") if key in a]
        assert addresses
        assert [address for address in addresses if not address.startswith(("#", "data:image/jpeg;base64,"))] == []
        assert re.findall(r"url\((?!#)|@import|https?:|<link|<iframe|<base", text) == []


def test_ids_are_those_of_one_figure_each(tmp_path: Path, many: dict[str, Any]) -> None:
    page = page_of(tmp_path, many)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page.of("svg")) == 4
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) | {a["href"][1:] for a in page.of("use")} <= set(ids)


def test_every_figure_says_what_it_shows(tmp_path: Path, many: dict[str, Any]) -> None:
    curves, histograms, trade, probabilities = (figure["aria-label"] for figure in page_of(tmp_path, many).of("svg"))
    assert f"instance: {many['protocols']['instance']['cmc'][0] * 100:.1f} % at 1" in curves
    assert histograms.startswith("Histograms of scores. Right persons: mean ")
    assert trade.startswith("DET curve. Where both errors are about equal: FPIR ")
    assert f"off by {many['open_set']['calibration']['ece_after'] * 100:.1f} % on average" in probabilities


def test_thresholds_are_those_of_held_out_persons(tmp_path: Path, many: dict[str, Any]) -> None:
    settings = many["open_set"]["calibration"]["settings"]
    page = page_of(tmp_path, many)
    assert page.row("0.1 %")[1:] == ["-"] * 7  # a thousand searches for absent persons would be needed
    five = settings[2]
    assert page.row("5 %")[1:4] == [
        f"{five['threshold']:.4f}",
        f"{five['border']:.4f}",
        f"{five['held_out']['fpir']['share'] * 100:.1f}",
    ]
    assert all(sentence in page.text for sentence in many["open_set"]["sentences"])


def test_too_few_persons_for_thresholds_get_the_reason(tmp_path: Path) -> None:
    answer = answer_of(sides())
    assert answer["open_set"]["refused"] in page_of(tmp_path, answer).text


def test_without_a_calibration_the_trade_off_is_read_off_the_histograms() -> None:
    found = det_of({"scores": {"edges": [-1, 0, 1], "right": [1, 3], "wrong": [3, 1]}, "open_set": None})
    # At 0 one of four wrong scores passes, and one of four right ones does not.
    assert found.points == (Point(-1, 1.0, 0.0), Point(0, 0.25, 0.25), Point(1, 0.0, 1.0))
    assert found.coarse


def test_without_a_valid_query_the_page_says_why(tmp_path: Path) -> None:
    one = sides()
    page = page_of(tmp_path, answer_of(replace(one, query=replace(one.query, pids=one.query.pids + 5))))
    assert page.row("instance")[1:4] == ["-", "-", "-"]
    assert "No figures: no query has a row of its person that counts." in page.text
    assert page.of("svg") == []


def test_vectors_without_names_make_a_page(tmp_path: Path) -> None:
    one = sides()
    arrays = {f"{name}_{what}": getattr(rows, what) for name, rows in (("query", one.query), ("gallery", one.gallery))
              for what in ("vectors", "pids", "camids")}  # fmt: skip
    np.savez(tmp_path / "f.npz", **arrays)
    assert run(["evaluate", "--features", str(tmp_path / "f.npz"), "--html", str(tmp_path / "r.html")]) == 0
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "Accuracy of f.npz" in page.text
    assert page.row("instance")[1] == "50.0"
    assert page.of("img") == []


def test_pictures_are_small_and_named(tmp_path: Path) -> None:
    page = page_of(tmp_path, answer_of(sides()), data_set(tmp_path / "set"))
    says = [image["alt"] for image in page.of("img")]
    assert says == [
        "the query: person anna, camera 1",
        "rank 1, wrong: person bert, camera 10",
        "rank 2, right: person anna, camera 2",
    ]
    data = base64.b64decode(page.of("img")[0]["src"].removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.height) == ("JPEG", HEIGHT)


def test_only_pictures_of_the_evaluated_folder_are_shown(tmp_path: Path) -> None:
    root = data_set(tmp_path / "outer" / "set")  # archives often nest once
    picture(tmp_path / "outer" / "secret.jpg")
    (root / "query" / "link.jpg").symlink_to(tmp_path / "outer" / "secret.jpg")
    picture(root / "query" / "deeper" / "below.jpg")
    (root / "query" / "text.jpg").write_text("no picture")
    pictures = Pictures.of(tmp_path / "outer")
    assert pictures.query("q.jpg") is not None
    outside = (
        "../../secret.jpg",
        str(tmp_path / "outer" / "secret.jpg"),
        "..\\..\\secret.jpg",
        "..",
        "deeper/below.jpg",
    )
    for name in (*outside, "link.jpg", "text.jpg", "deeper", "none.jpg", "a\0b.jpg", "x" * 300, "", None):
        assert pictures.query(name) is None, name


def test_a_split_that_leads_out_of_the_folder_shows_nothing(tmp_path: Path) -> None:
    data_set(tmp_path / "elsewhere")
    (tmp_path / "set").mkdir()
    for split in ("query", "bounding_box_test"):
        (tmp_path / "set" / split).symlink_to(tmp_path / "elsewhere" / split)
    assert Pictures.of(tmp_path / "set").root is None
    assert Pictures.of(tmp_path / "nowhere").root is None
    assert Pictures.of(None).root is None


def test_without_matplotlib_a_sentence_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from app.cli.report import write_html; from pathlib import Path; from app.errors import BadSettings\n"
        "try: write_html(Path(sys.argv[1]), {}, None)\n"
        "except BadSettings as error: print(error)\n"
    )
    page = tmp_path / "report.html"
    done = subprocess.run([sys.executable, "-c", code, page], capture_output=True, text=True, timeout=60, check=True)
    assert "install the extra `report`" in done.stdout
    assert not page.exists()
