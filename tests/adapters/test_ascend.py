"""The NPU's adapter gives the CPU's answers, and keeps to the library's ways; on a stand-in of aclruntime, never on an NPU."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.adapters.model_directory import ModelDirectory
from app.adapters.onnx import OnnxEmbedder
from app.core.metrics import unit
from app.errors import BadDevice
from app.ports import Floats
from tests.adapters.on_npu import CROPS, Pretend, both_generations, fault, opened, swapped


@pytest.fixture
def on_cpu(directory: ModelDirectory) -> Iterator[Floats]:
    """The crops' vectors by ONNX Runtime."""
    embedder = OnnxEmbedder(directory.artefact("onnx-fp32"), "f", directory.manifest.dim, 1)
    yield embedder.embed(CROPS)
    embedder.close()


def cosines(a: Floats, b: Floats) -> Floats:
    return np.asarray((unit(a) * unit(b)).sum(axis=1))


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
