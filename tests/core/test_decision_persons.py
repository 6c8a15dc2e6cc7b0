"""Searches for persons whose answer is known, worked by hand and against a second, slow implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.decision import NOBODY, NOTHING, person_trials
from app.core.metrics import Labelled

ANNA, BERT = 1, 2


def test_a_centroid_is_of_raw_vectors_and_leaves_the_querys_camera_out() -> None:
    # Anna: (1, 0) in camera 1, (0, 2) and (2, 0) in camera 2. Bert: (0, 5) in camera 2.
    vectors = np.array([[1, 0], [0, 2], [2, 0], [0, 5]], dtype=np.float32)
    trials = person_trials(Labelled(vectors, np.array([ANNA, ANNA, ANNA, BERT]), np.array([1, 2, 2, 2])))
    # From camera 1: anna is (2, 2), at 45 degrees; bert is at 90. From camera 2: anna is (1, 0), and bert nowhere.
    assert trials.genuine.tolist() == pytest.approx([np.sqrt(0.5), 0, 1, NOTHING])
    assert trials.impostor.tolist() == pytest.approx([0, NOTHING, NOTHING, 0])
    assert trials.found.tolist() == [BERT, NOBODY, NOBODY, ANNA]
    assert trials.kind == "person"


def slow(gallery: Labelled) -> list[tuple[int, float, float]]:
    found = []
    people = list(zip(gallery.vectors.astype(float), gallery.pids.tolist(), gallery.camids.tolist(), strict=True))
    for vector, pid, camid in people:
        if pid < 0 or camid < 0:
            continue
        scores = {}
        for person in {p for _, p, _ in people if p >= 0}:
            rows = [v for v, p, c in people if p == person and c != camid]
            if rows:
                mean = np.mean(rows, axis=0)
                scores[person] = float(mean @ vector / np.linalg.norm(mean) / np.linalg.norm(vector))
        genuine = scores.pop(pid, NOTHING)
        found.append((pid, genuine, max(scores.values(), default=NOTHING)))
    return found


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60), persons=st.integers(1, 8))
def test_searches_equal_the_slow_implementation(seed: int, count: int, persons: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 5)).astype(np.float32)
    gallery = Labelled(vectors, rng.integers(-1, persons, count), rng.integers(-1, 3, count))
    trials = person_trials(gallery)
    expected = slow(gallery)
    assert trials.pids.tolist() == [row[0] for row in expected]
    assert trials.genuine.tolist() == pytest.approx([row[1] for row in expected], abs=1e-5)
    assert trials.impostor.tolist() == pytest.approx([row[2] for row in expected], abs=1e-5)
