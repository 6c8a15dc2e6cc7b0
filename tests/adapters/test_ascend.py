"""The NPU's adapter against a stand-in of aclruntime that refuses what the real one refuses; nothing here ran on an NPU."""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.adapters.ascend import open_variant
from app.adapters.model_directory import ModelDirectory
from app.adapters.onnx import OnnxEmbedder
from app.adapters.worker import Deadlines, WorkerEmbedder
from app.core.metrics import unit
from app.errors import BadDevice, BadSettings, DeviceFailed, DeviceLost
from app.ports import Floats
from tests import standins

Pretend = Callable[..., None]
CROPS = np.random.default_rng(5).integers(0, 256, (11, 256, 128, 3), dtype=np.uint8)
both_generations = pytest.mark.parametrize("generation", ["new", "old"])


@pytest.fixture
def directory(om_model_directory: Path) -> ModelDirectory:
    return ModelDirectory.open(om_model_directory)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where workers make their folders."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def on_cpu(directory: ModelDirectory) -> Iterator[Floats]:
    """The crops' vectors by ONNX Runtime."""
    embedder = OnnxEmbedder(directory.artefact("onnx-fp32"), "f", directory.manifest.dim, 1)
    yield embedder.embed(CROPS)
    embedder.close()


def cosines(a: Floats, b: Floats) -> Floats:
    return np.asarray((unit(a) * unit(b)).sum(axis=1))


def opened(
    directory: ModelDirectory, *sizes: int, variant: str = "om-fp16", deadlines: Deadlines = Deadlines()
) -> "closing[WorkerEmbedder]":
    return closing(open_variant(directory, variant, 0, sizes, deadlines))


def fault(at: str, **more: Any) -> dict[str, Any]:
    return {"faults": [{"at": at, **more}]}


# Right answers


@both_generations
@pytest.mark.parametrize("variant", ["om-fp16", "om-fp16-aipp"])
@pytest.mark.parametrize("sizes", [(1, 4), (2, 8), (1, 4, 8)], ids=["static", "dynamic", "mixed"])
def test_vectors_are_the_cpus_within_float16(
    generation: str,
    variant: str,
    sizes: tuple[int, ...],
    directory: ModelDirectory,
    atlas_host: Pretend,
    on_cpu: Floats,
) -> None:
    atlas_host(acl={"generation": generation})
    with opened(directory, *sizes, variant=variant) as embedder:
        assert embedder.batch_sizes == sizes
        assert embedder.fingerprint == directory.manifest.variants[variant].fingerprint
        for count in range(1, sizes[-1] + 1):  # every size that is compiled, and those between, which are padded
            vectors = embedder.embed(CROPS[:count])
            assert cosines(vectors, on_cpu[:count]).min() > 0.999
            assert not np.array_equal(vectors, on_cpu[:count])  # else the stand-in would be no float16
        assert embedder.last_run is not None
        assert embedder.last_run.copied_ms >= embedder.last_run.execute_ms >= 0


def test_crops_that_lie_apart_or_are_turned_round_arrive_as_they_are(
    directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host()
    with opened(directory, 4, variant="om-fp16-aipp") as embedder:
        straight = embedder.embed(CROPS[:4])
        assert np.array_equal(embedder.embed(CROPS[:4][::-1])[::-1], straight)  # a view that is not contiguous
        assert np.array_equal(embedder.embed([crop.copy() for crop in CROPS[:4]]), straight)


# The library's ways


@both_generations
def test_ten_thousand_runs_leak_nothing_and_it_ends_in_order(
    generation: str, directory: ModelDirectory, atlas_host: Pretend, tmp_path: Path
) -> None:
    counters = tmp_path / "counters.json"
    atlas_host(acl={"generation": generation, "compute": "made-up", "counters_file": str(counters)})
    with opened(directory, 1, 4) as embedder:
        one = CROPS[:1]
        for _ in range(10_000):
            embedder.embed(one)
    told = json.loads(counters.read_text())
    assert told["runs"] == 10_000
    assert told["leaked_bytes"] == told["sessions_alive"] == told["contexts_alive"] == told["device_bytes"] == 0
    assert max(told["exec_times"], told["h2d_times"], told["d2h_times"]) <= 2
    events = [event.split()[0] for event in told["events"]]
    freed = ["free", "free"] if generation == "new" else []
    assert events == ["open", "open", *freed, "finalize", "exit"]
    assert told["finalized"]


@both_generations
def test_an_om_that_is_refused_is_freed_and_the_library_ended_in_order(
    generation: str, directory: ModelDirectory, atlas_host: Pretend, tmp_path: Path
) -> None:
    counters = tmp_path / "counters.json"
    atlas_host(acl={"generation": generation, "counters_file": str(counters)})
    with pytest.raises(BadDevice, match="takes type 4"):
        opened(swapped(directory, tmp_path, "model_bs1_aipp.om", "model_bs1.om"), 1)
    events = [event.split()[0] for event in json.loads(counters.read_text())["events"]]
    assert events == ["open", *(["free"] if generation == "new" else []), "finalize", "exit"]


@both_generations
def test_a_library_that_does_not_end_well_is_told_of_and_ends_all_the_same(
    generation: str, directory: ModelDirectory, atlas_host: Pretend, capfd: pytest.CaptureFixture[str]
) -> None:
    at_the_end = [{"at": "free", "code": 107003, "nth": 0}, {"at": "finalize", "code": 507899}]
    atlas_host(acl={"generation": generation, "faults": at_the_end})
    with opened(directory, 1, 4) as embedder:
        embedder.embed(CROPS[:4])
    told = capfd.readouterr().err
    assert told.count("aclruntime's free_resource answered 107003") == (2 if generation == "new" else 0)
    assert told.count("aclruntime's finalize answered 507899") == 1


def test_the_parents_threads_go_on_while_a_run_holds_the_workers_lock(
    directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(acl=fault("execute", kind="slow", seconds=0.5))
    with opened(directory, 1) as embedder:
        done, ticks = threading.Event(), 0

        def run() -> None:
            embedder.embed(CROPS[:1])
            done.set()

        thread = threading.Thread(target=run)
        thread.start()
        while not done.wait(0.005):
            ticks += 1
        thread.join()
    assert ticks > 5  # of a hundred, where the machine is idle; with the lock held here there would be one


IN_ANOTHER_THREAD = """
import sys, threading
sys.path[:] = {path!r}
from pathlib import Path
import numpy as np
from app.adapters.ascend.session import AscendEmbedder, OmFile, load_library
om = OmFile(Path({om!r}), (1,), 1, False, "float32", "NCHW")
embedder = AscendEmbedder([om], "f", 128, 0, load_library())
def use():
    try:
        embedder.embed(np.zeros((1, 256, 128, 3), np.uint8))
    except RuntimeError as error:
        print("refused:", error)
thread = threading.Thread(target=use)
thread.start()
thread.join()
embedder.close()
"""


@both_generations
def test_another_thread_is_refused_before_the_library_sees_it(
    generation: str, directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(acl={"generation": generation})
    script = IN_ANOTHER_THREAD.format(path=sys.path, om=str(directory.path / "model_bs1.om"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "refused: an NPU's session is used in the thread that made it" in done.stdout


WITHOUT_TENSORS = """
import sys
sys.path[:] = {path!r}
from pathlib import Path
import aclruntime, numpy as np
from app.adapters.ascend.session import AscendEmbedder, OmFile
del aclruntime.Tensor, aclruntime.batch, aclruntime.model
om = OmFile(Path({om!r}), (1,), 1, False, "float32", "NCHW")
embedder = AscendEmbedder([om], "f", 128, 0, aclruntime)
print(embedder.embed(np.zeros((1, 256, 128, 3), np.uint8)).shape)
embedder.close()
"""


@both_generations
def test_no_tensor_is_made_by_hand_which_on_the_host_would_be_a_fault_of_the_device(
    generation: str, directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(acl={"generation": generation})
    script = WITHOUT_TENSORS.format(path=sys.path, om=str(directory.path / "model_bs1.om"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "(1, 128)"


def test_what_the_library_prints_disturbs_nothing(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host(acl={"noise": True, "generation": "old"})
    with opened(directory, 1, 4) as embedder:
        for _ in range(20):
            assert embedder.embed(CROPS[:4]).shape == (4, 128)


def test_a_relative_path_means_the_parents_folder(
    directory: ModelDirectory, atlas_host: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas_host()
    monkeypatch.chdir(directory.path.parent)
    with opened(ModelDirectory(Path(directory.path.name), directory.manifest), 1) as embedder:
        assert embedder.embed(CROPS[:1]).shape == (1, 128)


# What must not be loaded


def swapped(directory: ModelDirectory, tmp_path: Path, put: str, in_place_of: str) -> ModelDirectory:
    """A directory in which one OM lies under another's name, and the manifest does not know."""
    shutil.copytree(directory.path, tmp_path / "model")
    shutil.copyfile(directory.path / put, tmp_path / "model" / in_place_of)
    return ModelDirectory(tmp_path / "model", directory.manifest)


@pytest.mark.parametrize(
    ("put", "in_place_of", "variant", "sentence"),
    [
        ("model_bs1_aipp.om", "model_bs1.om", "om-fp16", r"takes type 4, shape \(1, 256, 128, 3\), 98304 bytes"),
        ("model_bs4.om", "model_bs1.om", "om-fp16", r"takes type 0, shape \(4, 3, 256, 128\)"),
        ("model_dyn.om", "model_bs1.om", "om-fp16", r"shape \(-1, 3, 256, 128\)"),
        # The same number of bytes, which is all that the library compares: it would run, and give nonsense.
        (
            "model_bs1.om",
            "model_bs4_aipp.om",
            "om-fp16-aipp",
            r"takes type 0, .* 393216 bytes; .* uint8 .* 393216 bytes",
        ),
    ],
)
def test_an_om_that_is_not_what_the_manifest_says_is_refused_before_it_runs(
    put: str,
    in_place_of: str,
    variant: str,
    sentence: str,
    directory: ModelDirectory,
    atlas_host: Pretend,
    tmp_path: Path,
) -> None:
    atlas_host()
    size = int(in_place_of.removeprefix("model_bs")[0])
    with pytest.raises(BadDevice, match=sentence):
        opened(swapped(directory, tmp_path, put, in_place_of), size, variant=variant)


@both_generations
def test_an_om_for_another_chip_is_refused_by_the_library(
    generation: str, directory: ModelDirectory, atlas_host: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas_host(acl={"generation": generation, "chips": ["Ascend910B4"]})
    monkeypatch.setenv("PATH", "/nowhere")  # no npu-smi, which would say so first
    with pytest.raises(
        BadDevice, match=r"model_bs1\.om on chip 0: \[1\] the OM is missing, damaged, or made for another"
    ):
        opened(directory, 1)


def test_an_om_for_another_chip_is_refused_with_the_command_that_helps(
    directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(npu_smi={"names": ["310P1", "310P1"]})
    with pytest.raises(BadDevice, match="--soc-version Ascend310P1"):
        opened(directory, 1)


def test_a_chip_without_room_is_left_alone_and_both_figures_are_told(
    directory: ModelDirectory, atlas_host: Pretend
) -> None:
    atlas_host(npu_smi={"used_mb": [21530, 0]})
    with pytest.raises(DeviceFailed, match=r"need at least 15 MB, ascend:0 has 4 of 21534 MB free"):
        opened(directory, 1, 4)  # 3 and 12 MB of work memory, and small weights: what the stand-in's OMs say they take


def test_an_om_of_a_later_cann_is_refused(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host(acl={"cann_version": "7.0.0"})
    with pytest.raises(BadDevice, match="build it again for this chip and this CANN"):
        opened(directory, 1)


def test_a_size_that_no_om_has_is_refused(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host()
    with pytest.raises(BadSettings, match="no OM for batch size 16; there are 1, 2, 4, 8"):
        opened(directory, 16)


def test_a_gear_that_was_not_compiled_is_a_wrong_set_up(
    directory: ModelDirectory, atlas_host: Pretend, tmp_path: Path
) -> None:
    atlas_host()
    lying = directory.manifest.model_copy(
        update={
            "artefacts": tuple(
                a.model_copy(update={"compiled": a.compiled.model_copy(update={"gears": (4, 8)})})
                if a.file == "model_dyn.om" and a.compiled
                else a
                for a in directory.manifest.artefacts
                if a.file != "model_bs4.om"
            )
        }
    )
    with opened(ModelDirectory(directory.path, lying), 4) as embedder, pytest.raises(BadDevice, match=r"\[1\]"):
        embedder.embed(CROPS[:4])


def test_without_the_library_it_says_where_it_comes_from_and_how_to_do_without(
    directory: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(standins.SITE)])
    with pytest.raises(BadDevice, match=r"aclruntime is not installed.*set REID_VARIANT=onnx-fp32"):
        opened(directory, 1)


def test_without_the_driver_it_says_so(directory: ModelDirectory, atlas_host: Pretend) -> None:
    atlas_host(acl=fault("import"))
    with pytest.raises(BadDevice, match=r"libascend_hal\.so.*driver's libraries are not here.*REID_VARIANT=onnx-fp32"):
        opened(directory, 1)


# Faults of the device


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
