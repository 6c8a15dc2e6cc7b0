"""File names to records, and which items a filter accepts."""

import os
from datetime import datetime

import pytest

from app.core.records import Filter, Item, Label, NamePattern, is_background, label_files, require_labels, sort_names
from app.errors import BadField, BadInput


@pytest.mark.parametrize(
    ("pattern", "name", "label"),
    [
        ("duke", "0005_c2_f0046985.jpg", Label("0005", "2")),
        ("duke", "0005_c12_f0046985.jpg", Label("0005", "12")),  # all digits of the camera
        ("market1501", "0002_c1s1_000451_03.jpg", Label("0002", "1")),
        ("market1501", "-1_c3s2_000451_03.jpg", Label("-1", "3")),
        ("msmt17", "0000_000_01_0303morning_0015_0.jpg", Label("0000", "01")),
        ("auto", "0003_c1_21.png", Label("0003", "1")),  # CUHK03-NP
        ("auto", "0002_c1s1_000451_03.jpg", Label("0002", "1")),
        (r"cam(?P<camera>\d+)-(?P<person>\w+)-", "cam7-anna-001.jpg", Label("anna", "7")),
    ],
)
def test_a_name_gives_person_and_camera_with_the_digits_as_written(pattern: str, name: str, label: Label) -> None:
    assert NamePattern(pattern).read(name) == label


@pytest.mark.parametrize(
    "name",
    [
        "094_1_c9_015833.png",  # LTCC: the clothes stand between
        "0001C1T0001F001.jpg",  # MARS
        "0000_000_01_0303morning_0015_0.jpg",  # MSMT17
        "lobby.jpg",
        "x0005_c2_f1.jpg",  # anchored at the beginning
    ],
)
def test_names_of_other_data_sets_are_not_misread(name: str) -> None:
    assert NamePattern("auto").read(name) is None


def test_a_pattern_that_is_no_expression_is_refused() -> None:
    with pytest.raises(BadField, match="pattern: '\\(' is no regular expression"):
        NamePattern("(")


def test_a_pattern_without_its_groups_is_refused_with_their_names() -> None:
    with pytest.raises(BadField, match=r"\(\?P<camera>"):
        NamePattern(r"(?P<person>\d+)")


def test_a_folder_is_sorted_into_labelled_unlabelled_junk_and_the_rest() -> None:
    names = [
        "0010_c1_f1.jpg",
        "-1_c1s1_01_00.jpg",
        "Thumbs.db",
        "._0010_c1_f1.jpg",
        "0000_c1s1_1_0.JPG",
        "hat.png",
        "readme.txt",
    ]
    files = label_files(names, NamePattern())
    assert files.labelled == (("0000_c1s1_1_0.JPG", Label("0000", "1")), ("0010_c1_f1.jpg", Label("0010", "1")))
    assert files.unlabelled == ("hat.png",)
    assert files.junk == ("-1_c1s1_01_00.jpg",)
    assert files.skipped == ("._0010_c1_f1.jpg", "Thumbs.db", "readme.txt")


def test_the_label_is_read_off_the_base_name_alone() -> None:
    files = label_files(["run12_c3/0005_c2_f1.jpg"], NamePattern())
    assert files.labelled == (("run12_c3/0005_c2_f1.jpg", Label("0005", "2")),)


def test_a_folder_in_which_no_name_fits_is_refused_with_five_of_them() -> None:
    files = label_files([f"{i}.jpg" for i in range(9)], NamePattern())
    with pytest.raises(BadInput, match=r"0\.jpg, 1\.jpg, 2\.jpg, 3\.jpg, 4\.jpg$"):
        require_labels(files)


def test_names_are_sorted_by_bytes() -> None:
    assert sort_names(["b", "é", "a", "B", "Z"]) == ["B", "Z", "a", "b", "é"]


def test_names_that_are_not_utf8_are_sorted_and_skipped() -> None:
    broken = os.fsdecode(b"\xff.jpg")
    assert sort_names([broken, "a.jpg"]) == ["a.jpg", broken]
    files = label_files([broken, "a.jpg"], NamePattern())
    assert (files.unlabelled, files.skipped) == (("a.jpg",), (broken,))


def test_a_pattern_that_takes_for_ever_is_refused_in_time() -> None:
    with pytest.raises(BadField, match=r"takes more than 0\.2 s"):
        NamePattern(r"(?P<person>(?:a|a|aa)+)(?P<camera>[xyz])").read("a" * 80)


def test_only_market1501s_zero_is_background() -> None:
    assert NamePattern("market1501").has_background
    assert not NamePattern("msmt17").has_background


@pytest.mark.parametrize(("person", "background"), [("0000", True), ("0", True), ("0010", False), ("anna", False)])
def test_background_is_person_zero(person: str, background: bool) -> None:
    assert is_background(person) is background


def test_a_filter_accepts_items_by_person_camera_and_id() -> None:
    anna = Item("1", "", person_id="anna", camera_id="2")
    nobody = Item("2", "")
    assert Filter().accepts(nobody)
    assert Filter(persons=frozenset({"anna"})).accepts(anna)
    assert not Filter(persons=frozenset({"anna"})).accepts(nobody)
    assert not Filter(not_camera="2").accepts(anna)
    assert Filter(not_camera="2").accepts(nobody)  # whose camera is unknown
    assert not Filter(cameras=frozenset({"3"})).accepts(anna)
    assert not Filter(ids=frozenset({"2"})).accepts(anna)


def test_a_filter_without_conditions_accepts_everything_and_an_instant_has_a_zone() -> None:
    assert Filter().accepts(Item("a", "sha"))
    with pytest.raises(ValueError, match="no time zone"):
        Filter(captured_to=datetime(2026, 3, 1))  # noqa: DTZ001  # that is the mistake
