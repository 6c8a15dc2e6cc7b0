"""`reid bench`: what is made up, what is computed from the clock, and what is said. No speed is asked for here."""

import json
from itertools import count

import numpy as np
import pytest

from app.cli.bench.evaluate import Size, compared, lasted, made_up, measure, plain_instance, sentences
from app.cli.bench.machine import Peak, blas_threads
from app.cli.main import run
from app.core.protocols import PROTOCOLS, evaluate

TINY = Size(queries=12, gallery=40, dim=16, persons=5, distractors=3, cameras=3, seed=7)


def test_the_time_of_each_ends_where_the_next_begins() -> None:
    assert lasted({"a": 1.0, "b": 3.0}, 3.5) == {"a": 2.0, "b": 0.5}


def test_the_plain_loop_is_told_for_all_queries() -> None:
    # 0.5 s for 200 of 2,000 queries is 5 s for all: ten times ours.
    assert compared(0.5, 200, 2000, 0.5) == {"queries": 200, "seconds": 0.5, "extrapolated_s": 5.0, "ratio": 10.0}


def test_what_is_made_up_is_as_large_as_asked_and_the_same_each_time() -> None:
    query, gallery = made_up(TINY)
    again, _ = made_up(TINY)
    assert query.vectors.shape == (12, 16)
    assert gallery.vectors.shape == (40, 16)
    assert query.vectors.dtype == np.float32
    assert (query.vectors == again.vectors).all()


def test_persons_with_queries_are_in_several_cameras_and_distractors_in_one() -> None:
    query, gallery = made_up(TINY)
    cameras = [len(set(gallery.camids[gallery.pids == person].tolist())) for person in range(8)]
    # 12 queries of 5 persons: two or three each, in as many cameras; the gallery's five rows of each go round those.
    assert cameras == [3, 3, 2, 2, 2, 1, 1, 1]
    assert len(set(zip(query.pids.tolist(), query.camids.tolist(), strict=True))) == 12
    assert evaluate(query, gallery, ["instance"])["instance"].report.valid_queries == 12


def test_the_plain_loop_ranks_as_the_protocol_does() -> None:
    query, gallery = made_up(TINY)
    ours = evaluate(query, gallery, ["instance"])["instance"].ranked.precision
    assert plain_instance(query, gallery, np.arange(12)) == pytest.approx(ours.tolist())


def test_seconds_are_those_of_the_clock() -> None:
    ticks = count()
    answer = measure(TINY, *made_up(TINY), clock=lambda: float(next(ticks)), plain=6)
    assert [figures["seconds"] for figures in answer["protocols"].values()] == [1.0] * len(PROTOCOLS)
    assert answer["total_s"] == 6.0
    # One tick for 6 of 12 queries.
    assert (answer["plain"]["queries"], answer["plain"]["extrapolated_s"], answer["plain"]["ratio"]) == (6, 2.0, 2.0)
    assert answer["plain"]["largest_difference"] < 1e-6
    assert answer["vectors_bytes"] == 52 * 16 * 4
    assert "extrapolated from 1.00 s for 6 of 12 queries" in sentences(answer)[2]


def test_memory_is_that_in_use_at_once_and_not_what_was_before() -> None:
    before = np.ones(2**23)  # 64 MiB, in use and given back
    del before
    memory = Peak()
    assert memory.above_start() < 2**25
    held = np.ones(2**23)
    del held
    if memory.by.startswith("VmHWM"):  # elsewhere an earlier peak hides this one
        assert 2**26 * 0.9 < memory.above_start() < 2**27


def test_the_threads_of_the_products_are_told() -> None:
    threads = blas_threads()
    assert threads is None or threads >= 1


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    small = [
        "--queries",
        "12",
        "--gallery",
        "40",
        "--dim",
        "16",
        "--persons",
        "5",
        "--distractors",
        "3",
        "--cameras",
        "3",
    ]
    assert run(["bench", "evaluate", *small]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in PROTOCOLS)
    assert "made up (seed 0): accuracy means nothing here" in printed
    assert run(["bench", "evaluate", *small, "--json", "-"]) == 0
    assert set(json.loads(capsys.readouterr().out)["protocols"]) == set(PROTOCOLS)


def test_a_gallery_too_small_for_its_persons_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "evaluate", "--gallery", "7", "--persons", "5", "--distractors", "3"]) == 1
    assert "7 rows are too few for 8 persons" in capsys.readouterr().err
