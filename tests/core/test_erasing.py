"""Names are found where they stand by themselves, and nowhere else; a job that told of them tells nothing."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.erasing import ERASED, Names, cleared, named, parsed
from app.core.jobs import Failure, Job, Progress
from app.core.records import Item

NOON, LATER = datetime(2026, 1, 2, 12, tzinfo=UTC), datetime(2026, 1, 2, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("anna", "anna"),
        ("anna", "is it anna?"),
        ("anna", "/gate/anna_c1.jpg"),
        ("0005", "0005_c2_f0046985.jpg"),
        ("0005_c2", "x/0005_c2_f0046985.jpg"),
        ("c2_f0046985", "0005_c2_f0046985.jpg"),
        ("Müller, Zoë", "Frau Müller, Zoë sagt"),
        ("-1", "person -1"),
        ("a b", "a b"),
        ("b a b", "a b a b"),
        ("???", "who is ????"),
        ("+anna", "x+anna"),
    ],
)
def test_a_name_is_found_between_other_words(name: str, text: str) -> None:
    assert Names([name, "somebody else"]).within(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("anna", "hannah"),
        ("anna", "Anna"),
        ("anna", "annab"),
        ("5", "15_c1.jpg"),
        ("5", "v5"),
        ("0005_c2", "10005_c2"),
        ("0005_c2", "0005_c21"),
        ("0005_c2", "0005"),
        ("", "anything"),
        ("anna b", "anna"),
    ],
)
def test_a_name_is_not_found_in_another(name: str, text: str) -> None:
    assert not Names([name]).within(text)


def test_texts_are_looked_at_wherever_json_has_them_and_numbers_are_none() -> None:
    names = Names(["5", "anna"])
    for value in ("5", ["x", "anna"], {"anna": 1}, {"a": [{"b": ("c", "5")}]}):
        assert names.within(value)
    for nothing in (5, 0.5, None, True, [5], {"a": 5}, {}):
        assert not names.within(nothing)
    assert not Names([]).within("anna")


words = st.text("ab1_-. ", min_size=1, max_size=6)


@given(st.lists(words, max_size=4), words)
def test_a_look_finds_what_a_plain_search_finds(names: list[str], text: str) -> None:
    def stands(name: str, start: int) -> bool:
        end = start + len(name)
        before, after = text[start - 1 : start] if start else "", text[end : end + 1]
        inside = (before + name[0]).isalnum() and before != "", (name[-1] + after).isalnum() and after != ""
        return text[start:end] == name and not (any(name_.isalnum() for name_ in name) and any(inside))

    expected = any(stands(name, start) for name in names for start in range(len(text)))
    assert Names(names).within(text) == expected


def test_an_item_is_known_by_its_id_its_hash_its_source_and_the_file_of_that() -> None:
    names = Names.of([Item("a1", "e3b0", "anna", source="gate\\x/0007.jpg")], ["b1"], ["bert"])
    for text in ("a1", "e3b0", "gate\\x/0007.jpg", "0007.jpg", "b1", "bert"):
        assert names.within(text)
    assert not names.within("anna")  # of whom there may be more


def test_a_job_is_named_by_any_of_its_texts() -> None:
    names = Names(["anna"])
    plain = Job("anna", "evaluate", {"n": 1}, NOON)  # a job's own id is nobody's name
    assert not named(plain, names)
    for job in (
        Job("j", "k", {"of": "anna"}, NOON),
        Job("j", "k", {}, NOON, progress=Progress(note="anna")),
        Job("j", "k", {}, NOON, error=Failure("x", "no anna here")),
        Job("j", "k", {}, NOON, result={"anna": 1}),
    ):
        assert named(job, names)


def test_a_cleared_job_keeps_what_names_nobody() -> None:
    told = {"progress": Progress(2, 3, "anna"), "error": Failure("x", "anna"), "result": {"anna": 1}}
    failed = Job("j", "k", {"of": "anna"}, NOON, "failed", NOON, NOON, **told)  # type: ignore[arg-type]
    empty = Job("j", "k", {}, NOON, "failed", NOON, NOON, Progress(2, 3, ERASED), None, Failure("x", ERASED))
    assert cleared(failed, LATER) == empty
    running = Job("j", "k", {"of": "anna"}, NOON, "running", NOON)
    assert cleared(running, LATER) == Job("j", "k", {}, NOON, "cancelled", NOON, LATER, Progress(note=ERASED))


def test_what_is_no_json_is_the_text_that_it_is() -> None:
    assert (parsed('{"a": 1}'), parsed("anna")) == ({"a": 1}, "anna")
