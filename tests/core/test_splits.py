"""Which labelled names count on each side, and that the arrays number persons and cameras alike in both."""

import numpy as np

from app.core.records import Label, NamePattern, label_names
from app.core.splits import Split, sides_of, without_background

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


def test_a_person_and_a_camera_have_the_same_number_in_query_and_gallery_and_numbers_lead_back() -> None:
    query = Split(np.ones((2, 3), dtype=np.float32), [Label("b", "9"), Label("c", "10")], ["q0", "q1"])
    gallery = Split(np.ones((2, 3), dtype=np.float32), [Label("a", "10"), Label("b", "9")], ["g0", "g1"])
    both = sides_of(query, gallery)
    assert [both.persons[pid] for pid in (*both.query.pids, *both.gallery.pids)] == ["b", "c", "a", "b"]
    assert [both.cameras[camid] for camid in (*both.query.camids, *both.gallery.camids)] == ["9", "10", "10", "9"]
    assert (both.query_names, both.gallery_names) == (["q0", "q1"], ["g0", "g1"])
