"""A pretended NPU that takes the guide's times: what the service around a fast device can do. Nothing of it ran on an NPU.

The stand-in of `aclruntime` sleeps as long as the guide's table says a batch takes (and a copy at 4 GB/s), and makes vectors
from a few bytes of each crop in no time. So whatever is lost against the table is lost by the host: by us, on these cores.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.adapters.model_directory import ModelDirectory
from app.core.manifest import MANIFEST_FILE, OM_FP16_AIPP
from tests import standins
from tests.load.bench import Bench
from tests.load.bulk import NPY, TAR, Pieces, Stream, array_of, tar_of
from tests.load.calls import drawn_jpegs
from tests.load.gallery import make_collection
from tests.load.report import Figure, Report
from tests.load.run import Run, Target
from tests.load.scenarios.bulk import streamed
from tests.server import ROOT
from tests.standins.acl.model import _made_up

GUIDE_PER_S = 4287.0  # the guide's best: Ascend310P3, batch 8
_SOC = "Ascend310P3"


async def standin(bench: Bench) -> Report:
    """Ingest of uint8 crops, then of JPEGs, beside a device that only waits as long as the guide's table says."""
    with tempfile.TemporaryDirectory(prefix="reid-standin-") as temporary:
        folder = Path(temporary)
        environment = _environment(folder) | {"REID_DEVICES": "ascend:0"}
        shutil.copytree(bench.directory, folder / "model")
        _compile(folder)
        _take_made_up_for_golden(folder / "model")
        ours = replace(bench, model=folder / "model", variant=OM_FP16_AIPP)
        async with ours.server(environment) as target:
            await make_collection(target)
            ready = await _ingest(bench, target, array_of(bench.crops), NPY)
            jpegs = await _ingest(bench, target, tar_of(drawn_jpegs(), bench.crops), TAR)
    figures = [_figure("uint8 crops", ready, at_least=0.85), _figure("JPEGs", jpegs)]
    return bench.report("standin", figures, [ready, jpegs], device="a stand-in that sleeps, not an NPU", soc=_SOC)


async def _ingest(bench: Bench, target: Target, pieces: Pieces, kind: str) -> Run:
    stream = Stream(target, pieces, kind)
    run = await streamed(stream)
    bench.say(f"{kind}: {stream.rate_per_s():.0f}/s, {stream.statuses}")
    return run


def _figure(what: str, run: Run, at_least: float | None = None) -> Figure:
    """With who used the cores, which is what bounds it."""
    usage, rate = run.usages[-1], run.throughput_per_s
    used = ", ".join(f"{one.role} {one.name} {one.cores:.2f}" for one in usage.processes)
    of = f"{rate:.0f}/s of {GUIDE_PER_S:.0f}/s; cores of {usage.cores}: {used}"
    return Figure(f"{what} ingested over the guide's best", rate / GUIDE_PER_S, at_least, of=of)


def _environment(folder: Path) -> dict[str, str]:
    acl = {"speed": 1.0, "compute": "made-up", "chips": [_SOC]}
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return standins.environment(folder, acl=acl, base=base)


def _compile(folder: Path) -> None:
    command = [sys.executable, "-m", "model_build", "compile", str(folder / "model"), "--soc-version", _SOC, "--aipp"]
    subprocess.run(command, check=True, env=_environment(folder), cwd=ROOT, stdout=sys.stderr)


def _take_made_up_for_golden(model: Path) -> None:
    """The server refuses a device whose golden crops come out otherwise than the manifest says; here they do."""
    directory = ModelDirectory.open(model)
    crops = directory.golden().crops
    file = model / directory.manifest.golden.file
    np.savez(file, crops=crops, vectors=_made_up(crops, [directory.manifest.dim]))
    text = json.loads((model / MANIFEST_FILE).read_text(encoding="utf-8"))
    data = file.read_bytes()
    text["golden"] |= {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (model / MANIFEST_FILE).write_text(json.dumps(text), encoding="utf-8")
