"""Which labelled names count on each side, and that the arrays number persons and cameras alike in both."""

import numpy as np

from app.core.records import Label, NamePattern, label_names
from app.core.splits import Split, arrays, rank, without_background

PATTERN = NamePattern()


def test_names_are_sorted_by_what_they_say_whatever_their_ending() -> None:
    files = label_names(["0005_c2_f1.bin", "hat.bin", "-1_c1_f1.bin", "0000_c1_f2"], PATTERN)
    assert files.labelled == (("0005_c2_f1.bin", Label("0005", "2")), ("0000_c1_f2", Label("0000", "1")))
    assert (files.unlabelled, files.junk, files.skipped) == (("hat.bin",), ("-1_c1_f1.bin",), ())


def test_background_is_junk_among_queries_and_only_where_it_means_nobody() -> None:
    files = label_names(["0005_c2_f1", "0000_c1_f2"], PATTERN)
    assert without_background(files, PATTERN).junk == ("0000_c1_f2",)
    own = NamePattern(r"(?P<person>\d+)_c(?P<camera>\d+)_")
    assert without_background(label_names(["0000_c1_f2"], own), own).junk == ()


def test_a_person_and_a_camera_have_the_same_number_in_query_and_gallery() -> None:
    query = Split(np.ones((2, 3), dtype=np.float32), [Label("b", "9"), Label("c", "10")])
    gallery = Split(np.ones((2, 3), dtype=np.float32), [Label("a", "10"), Label("b", "9")])
    asked, kept = arrays(query, gallery)
    assert asked.pids[0] == kept.pids[1]
    assert asked.camids[1] == kept.camids[0]
    assert len({*asked.pids.tolist(), *kept.pids.tolist()}) == 3


def test_ranking_is_by_named_protocol() -> None:
    """The query's person is first by cosine but seen by the query's camera, and so does not count; second: AP 1/2 without b."""
    query = Split(np.array([[1, 0]], dtype=np.float32), [Label("a", "1")])
    vectors = np.array([[1, 0], [0.9, 0.1], [0.8, 0.6]], dtype=np.float32)
    gallery = Split(vectors, [Label("a", "1"), Label("b", "1"), Label("a", "2")])
    report = rank(query, gallery)["instance"]
    assert (report.mAP, report.ranks[1], report.ranks[5]) == (0.5, 0.0, 1.0)
