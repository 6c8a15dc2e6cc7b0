"""A chip that fails, hangs or dies: an error in time, and nothing of the pictures left; on a stand-in, never on an NPU."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.adapters.ascend import open_variant
from app.adapters.model_directory import ModelDirectory
from app.adapters.worker import Deadlines, WorkerEmbedder
from app.errors import BadDevice, DeviceFailed, DeviceLost
from tests.adapters.on_npu import CROPS, Pretend, both_generations, fault, opened


@both_generations
@pytest.mark.parametrize(
    ("switches", "sentence"),
    [
        (fault("open", code=507033), r"\[507033\] the device could not be opened"),
        (fault("open", code=207006), r"\[207006\] no permission for the device; .* HwHiAiUser"),
        ({"memory_mb": 1}, r"memory"),
    ],
)
def test_a_device_that_does_not_open_now_is_worth_another_try(
    generation: str, switches: dict[str, Any], sentence: str, directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(acl={"generation": generation, **switches})
    with pytest.raises(DeviceFailed, match=sentence):
        opened(directory, 1, 4)


def test_a_failed_start_of_acl_is_a_wrong_set_up(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host(acl=fault("init", code=100039))
    with pytest.raises(BadDevice, match=r"\[100001\].*\[100039\] a stub library"):
        opened(directory, 1)


@both_generations
@pytest.mark.parametrize(
    ("switches", "sentence"),
    [
        (fault("execute", code=507011), r"\[507011\] the model's execution failed"),
        (fault("execute", code=507015, nth=3), r"\[507015\] an AI core raised an exception"),
        (fault("input-memory"), r"\[207001\] the chip's memory is used up"),
        (fault("output-memory"), r"\[2\] no memory for an output"),
        (fault("h2d", code=507010), r"\[26\] a copy .* failed; .*\[507010\] the chip's heartbeat is lost"),
        (fault("d2h", code=507901), r"\[26\] a copy .* failed; .*\[507901\] the channel between host and chip"),
        (fault("pinned-memory"), r"\[2\] no memory for an output or a tensor"),
        (fault("execute", kind="nan"), "no finite number for any of 2 crops"),
        (fault("execute", kind="death"), "ended by SIGKILL"),
        (fault("execute", kind="segv"), "ended by SIGSEGV"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_a_run_that_fails_loses_the_device_and_says_why(
    generation: str,
    switches: dict[str, Any],
    sentence: str,
    directory: ModelDirectory,
    atlas_host: Pretend,
    scratch: Path,
) -> None:
    atlas_host(acl={"generation": generation, **switches})
    embedder = open_variant(directory, "om-fp16", 0, (1, 4))
    with pytest.raises(DeviceLost, match=sentence):
        repeat(embedder, 5)
    assert not list(scratch.iterdir())  # a fault makes the library dump the pictures it was working on
    embedder.close()


def repeat(embedder: WorkerEmbedder, times: int) -> None:
    for _ in range(times):
        embedder.embed(CROPS[:2])


def test_an_output_that_never_came_is_not_taken_for_vectors(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host(acl=fault("d2h", kind="lost"))
    with opened(directory, 1) as embedder, pytest.raises(DeviceLost, match=r"gave object \(\), not float32 \(1, 128\)"):
        embedder.embed(CROPS[:1])


def test_a_library_that_ends_the_process_over_such_an_output_ends_no_more_than_the_worker(
    directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(acl={"undelivered": "abort", **fault("d2h", kind="lost")})
    with opened(directory, 1) as embedder, pytest.raises(DeviceLost, match="ended by SIGABRT"):
        embedder.embed(CROPS[:1])


def test_a_run_that_hangs_ends_at_its_deadline(directory: ModelDirectory, atlas_host: Pretend, scratch: Path) -> None:
    atlas_host(acl=fault("execute", kind="hang"))
    embedder = open_variant(directory, "om-fp16", 0, (1,), Deadlines(run_s=0.5))
    with pytest.raises(DeviceLost, match=r"ascend:0 did not embed a batch within 0\.5 s; its process was killed"):
        embedder.embed(CROPS[:1])
    assert not list(scratch.iterdir())


def test_a_device_that_hangs_while_closing_does_not_keep_the_parent(
    directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(acl=fault("finalize", kind="hang"))
    embedder = open_variant(directory, "om-fp16", 0, (1,), Deadlines(close_s=0.5))
    embedder.close()
    assert not Path(f"/proc/{embedder.process_id}").exists()


def test_one_chip_fails_and_the_other_goes_on(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host(acl=fault("execute", device=0))
    first, second = (open_variant(directory, "om-fp16", chip, (1,)) for chip in (0, 1))
    with closing(first), closing(second):
        with pytest.raises(DeviceLost):
            first.embed(CROPS[:1])
        assert second.embed(CROPS[:1]).shape == (1, 128)


def test_a_chip_that_is_not_there_is_a_wrong_set_up(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host()
    with pytest.raises(BadDevice, match=r"\[107001\] no chip of this number here"):
        open_variant(directory, "om-fp16", 7, (1,))


def test_a_run_takes_at_least_what_the_guides_table_says(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host(acl={"speed": 20.0, "compute": "made-up"})
    with opened(directory, 4) as embedder:
        embedder.embed(CROPS[:4])
        assert embedder.last_run is not None
        assert embedder.last_run.execute_ms >= 20 * 1.07  # 4 images at 3715 a second, twenty times as slow
