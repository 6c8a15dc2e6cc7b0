"""What ais_bench writes is read as it wrote it; what it did not write whole is refused by name, alone."""

import io
import json
from typing import Any

import numpy as np
import pytest

from app.core.ais_bench import (
    MAX_RESULT_BYTES,
    Result,
    Results,
    is_result,
    parse_summary,
    parse_vector,
    refuse_rivals,
    sort_results,
    stem,
    usual_length,
)
from app.errors import BadInput

ROW = np.array([[0.25, -1.5, 3.0000001]], dtype=np.float32)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=array.dtype == object)
    return buffer.getvalue()


def summary(*pairs: tuple[list[str], list[str]]) -> bytes:
    filesinfo = {str(i): {"infiles": infiles, "outfiles": outfiles} for i, (infiles, outfiles) in enumerate(pairs)}
    return json.dumps({"filesinfo": filesinfo, "throughput": 12.5}).encode()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0005_c2_f0046985_0.txt", True),
        ("0002_c1s1_000451_03_0.npy", True),
        ("0005_c2_f0046985_1.bin", True),
        ("0005_c2_f0046985.bin", False),  # an input
        (
            "0002_c1s1_000451_03.bin",
            False,
        ),  # an input: the box's number has two digits, an output's index has no zero before it
        ("2023_01_05-10_11_12_summary.json", False),
        ("a.b_0.txt", False),  # a stem ends at the first dot
    ],
)
def test_a_result_is_told_from_an_input_by_its_name(name: str, expected: bool) -> None:
    assert is_result(name) is expected


def test_a_crop_its_bin_and_its_result_have_the_stem_in_common() -> None:
    assert {stem(name) for name in ("a/b_1.v2.jpg", "b_1.bin", "b_1")} == {"b_1"}


def test_the_three_forms_give_the_same_numbers() -> None:
    assert parse_vector("a_0.bin", ROW.tobytes()).tolist() == ROW[0].tolist()
    assert parse_vector("a_0.npy", npy(ROW)).tolist() == ROW[0].tolist()
    text = parse_vector("a_0.txt", b"0.250000 -1.500000 3.000000 \n")
    assert text.tolist() == [0.25, -1.5, 3.0]
    assert text.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a_0.bin", b"", "a_0.bin: empty"),
        ("a_0.bin", bytes(7), "7 bytes are no whole float32 numbers"),
        ("a_0.bin", bytes(MAX_RESULT_BYTES + 1), "larger than"),
        ("a_0.txt", b"0.250000 -1.5", "its line has no end"),
        ("a_0.txt", b"0.250000 \n0.500000 \n", "2 lines, where one crop has one"),
        ("a_0.txt", b"0.250000 one \n", "not all of it is numbers"),
        ("a_0.txt", b"0.25_0000 1.000000 \n", "not all of it is numbers"),  # Python's own digits may hold one
        ("a_0.txt", b"\n", "holds no number"),
        ("a_0.npy", npy(ROW[:, :0]), "holds no number"),
        ("a_0.npy", b"0.250000 \n", "not a NumPy file"),
        ("a_0.npy", npy(ROW)[:-1], "11 bytes of values for the shape [1, 3]"),
        ("a_0.npy", npy(np.repeat(ROW, 2, axis=0)), "one vector is [1, n]"),
        ("a_0.npy", npy(ROW.astype(np.float16)), "holds float16 instead of float32"),
        ("a_0.npy", npy(np.array([{"a": 1}])), "holds object"),  # a pickle, which is not read
        ("a_0.npy", npy(ROW).replace(b"(1, 3)", b"(1, 9**99)"), "not a NumPy file"),
    ],
)
def test_what_is_not_one_whole_vector_is_refused_by_name(name: str, data: bytes, sentence: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_vector(name, data)
    assert str(refusal.value).startswith(f"{name}: ")
    assert sentence in str(refusal.value)


def test_a_header_that_claims_more_than_there_is_allocates_nothing() -> None:
    claimed = npy(ROW).replace(b"(1, 3), }" + b" " * 9, b"(1, 9999999999), }")
    with pytest.raises(BadInput, match=r"12 bytes of values for the shape \[1, 9999999999\]"):
        parse_vector("a_0.npy", claimed)


def test_text_that_says_nan_or_too_much_is_read_as_not_finite() -> None:
    assert not np.isfinite(parse_vector("a_0.txt", b"nan inf 1e99 \n")).any()


def test_without_a_summary_the_input_is_told_by_the_results_name() -> None:
    names = ["b_0.txt", "a_0.txt", "a_1.txt", "sumary.json", "pure_infer_data_0.bin", "a.bin"]
    found = sort_results(names, None)
    assert found.usable == (Result("a_0.txt", "a.bin"), Result("b_0.txt", "b.bin"))
    assert found.other_outputs == ("a_1.txt",)
    assert set(found.skipped) == {"sumary.json", "pure_infer_data_0.bin", "a.bin"}


def test_the_summary_tells_the_input_before_the_name_does() -> None:
    """The first versions numbered their results; only the summary says whose they are."""
    pairs = parse_summary("s.json", summary((["./bins/0005_c2_f1.bin"], ["out/run/input0_output_0.txt"])))
    found = sort_results(["input0_output_0.txt", "left_0.txt"], pairs)
    assert found.usable == (Result("input0_output_0.txt", "0005_c2_f1.bin"),)
    assert found.refused == ("left_0.txt: not in the run's summary; is it left over from another run?",)


def test_a_result_that_two_inputs_were_written_to_is_nobodys() -> None:
    """ais_bench cuts names at the first dot: the later input's result overwrites the earlier one's."""
    pairs = parse_summary(
        "s.json", summary((["a.b.bin"], ["a_0.txt"]), (["a.c.bin"], ["a_0.txt"]), (["d.bin"], ["d_0.txt"]))
    )
    found = sort_results(["a_0.txt", "d_0.txt"], pairs)
    assert [result.source for result in found.usable] == ["d.bin"]
    assert "a_0.txt: written for a.b.bin and for a.c.bin" in found.refused[0]


def test_a_result_that_is_in_the_summary_only_is_missed_by_name() -> None:
    pairs = parse_summary("s.json", summary((["a.bin"], ["a_0.txt", "a_1.txt"]), (["b.bin"], ["b_0.txt"])))
    assert sort_results(["b_0.txt"], pairs).refused == ("a_0.txt: in the run's summary, but not in its folder",)


def test_a_summary_that_pairs_nothing_leaves_the_names() -> None:
    assert parse_summary("s.json", b'{"filesinfo": {}}') is None


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"{}", b'{"filesinfo": [1]}', b'{"filesinfo": {"0": {"infiles": [], "outfiles": ["a_0.txt"]}}}',
     b'{"filesinfo": {"0": {"infiles": [1], "outfiles": [2]}}}', b"\xff\xfe", b"[" * 100_000,
     b'{"filesinfo": {"0": {"infiles": "a.bin", "outfiles": ["a_0.txt"]}}}',  # a text has letters, as a list has names
     b'{"filesinfo": {"0": {"infiles": ["a.bin"], "outfiles": "a_0.txt"}}}',
     b'{"filesinfo": {"0": {"infiles": ["bins/"], "outfiles": ["a_0.txt"]}}}'],  # no input has an empty name
)  # fmt: skip
def test_a_summary_that_is_not_whole_is_named(text: bytes) -> None:
    with pytest.raises(BadInput, match=r"^run_summary\.json: not a whole summary"):
        parse_summary("run_summary.json", text)


def test_two_results_for_one_crop_are_both_refused() -> None:
    usable = tuple(Result(*names) for names in (("a_0.bin", "a.bin"), ("a_0.txt", "a.bin"), ("b_0.txt", "b.bin")))
    found = refuse_rivals(Results(usable, refused=("before",)))
    assert found.usable == usable[2:]
    assert [sentence.partition(":")[0] for sentence in found.refused] == ["before", "a_0.bin", "a_0.txt"]


def test_the_usual_length_is_that_of_most() -> None:
    assert usual_length(np.zeros(n, dtype=np.float32) for n in (4, 8, 8)) == 8
    with pytest.raises(BadInput, match="no result could be read"):
        usual_length([])


def test_a_name_that_cannot_be_stored_is_left_out() -> None:
    broken: Any = b"\xff_0.txt".decode(errors="surrogateescape")
    assert sort_results([broken], None) == Results(skipped=(broken,))
    pairs = parse_summary(
        "s.json", json.dumps({"filesinfo": {"0": {"infiles": ["a.\ud800"], "outfiles": ["a_0.txt"]}}}).encode()
    )
    assert sort_results(["a_0.txt"], pairs).usable == ()
