"""Which OMs are wanted, what they are called, and when one that lies there is still the one wanted."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.core.manifest import ONNX_FP32, Artefact, Compiled, ModelManifest
from app.errors import BadModelDirectory, BadSettings
from model_build.aipp import aipp_text
from model_build.atc import Command

DEFAULT_MODE = "force_fp16"  # ATC's own [ATC manual, --precision_mode]
# What ATC is told, and what a variant of it is called. All multiply in float16 on a 310P, whose cube unit takes nothing
# else; they differ in what lies between the convolutions.
PRECISIONS = {
    DEFAULT_MODE: "fp16",
    "force_fp32": "fp32",
    "must_keep_origin_dtype": "origin",
    "allow_fp32_to_fp16": "fp32-to-fp16",
    "allow_mix_precision": "mixed",
}
GEARS = (2, 100)  # how many a dynamic-batch OM may have [ATC manual, --dynamic_batch_size]
AIPP_FILE = "aipp.cfg"


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What the caller chooses. precision_mode None: ATC is not told one."""

    soc_version: str
    batch_sizes: tuple[int, ...] = (1, 4, 8, 16)
    aipp: bool = False
    dynamic: bool = False
    precision_mode: str | None = None
    timeout_s: float = 3600


@dataclass(frozen=True, slots=True)
class Job:
    """One OM: a batch size, or the gears of a dynamic batch; pixels as AIPP's uint8 or as normalised floats."""

    batch: int | None
    gears: tuple[int, ...]
    aipp: bool
    precision_mode: str | None

    @property
    def mode(self) -> str:
        """The precision mode that it has in effect."""
        return self.precision_mode or DEFAULT_MODE

    @property
    def precision(self) -> str:
        """The variant's word for it, such as fp16."""
        return PRECISIONS.get(self.mode, self.mode)

    @property
    def variant(self) -> str:
        """The variant that the OM belongs to, such as om-fp16-aipp."""
        return f"om-{self.precision}" + ("-aipp" if self.aipp else "")

    @property
    def file(self) -> str:
        """model_bs4.om, model_bs4_aipp.om, model_dyn.om; other precisions than the default are in the name too."""
        batch = "dyn" if self.batch is None else f"bs{self.batch}"
        precision = "" if self.mode == DEFAULT_MODE else f"_{self.precision.replace('-', '_')}"
        return f"model_{batch}{precision}{'_aipp' if self.aipp else ''}.om"

    @classmethod
    def of(cls, artefact: Artefact, compiled: Compiled) -> "Job":
        """The job that an OM of a manifest is the result of."""
        return cls(artefact.batch, compiled.gears, compiled.dtype == "uint8", compiled.precision_mode)


def plan(options: CompileOptions) -> tuple[Job, ...]:
    """One job per batch size, or one for all of them. Raises BadSettings."""
    if options.precision_mode is not None and options.precision_mode not in PRECISIONS:
        raise BadSettings(f"{options.precision_mode!r} is no precision mode; there are {', '.join(PRECISIONS)}")
    if not options.batch_sizes:
        raise BadSettings("an OM is compiled for batch sizes; name at least one")
    if not options.dynamic:
        return tuple(Job(size, (), options.aipp, options.precision_mode) for size in options.batch_sizes)
    if not GEARS[0] <= len(options.batch_sizes) <= GEARS[1]:
        raise BadSettings(f"a dynamic batch has {GEARS[0]} to {GEARS[1]} batch sizes, not {len(options.batch_sizes)}")
    return (Job(None, options.batch_sizes, options.aipp, options.precision_mode),)


def graph_of(job: Job, described: ModelManifest) -> Artefact:
    """The ONNX file that the OM is made of: the fixed one of its batch size, else the dynamic one."""
    graphs = {artefact.batch: artefact for artefact in described.artefacts if artefact.variant == ONNX_FP32}
    graph = graphs.get(job.batch, graphs.get(None))
    if graph is None:
        raise BadModelDirectory(f"the model directory has no {ONNX_FP32} file for {job.file}")
    return graph


def command_of(job: Job, described: ModelManifest, soc_version: str) -> Command:
    """ATC's command line for a job, with bare names: it is run in the folder where its files lie.

    So no path of this machine gets into the OM, which keeps its command line, and none of them can be one that ATC does
    not take.
    """
    facts = described.preprocessing
    return Command(
        model="model.onnx" if job.batch is None else f"model_bs{job.batch}.onnx",
        output=job.file.removesuffix(".om"),
        input_name=described.input.name,
        shape=(job.batch or -1, 3, facts.height, facts.width),
        soc_version=soc_version,
        gears=job.gears,
        precision_mode=job.precision_mode,
        aipp=AIPP_FILE if job.aipp else None,
    )


def inputs_sha256(job: Job, described: ModelManifest, soc_version: str, toolkit: str) -> str:
    """Hash over all that shapes an OM: graph, command line, AIPP file, toolkit.

    Whether the default precision mode was said or left out makes no difference.
    """
    spoken = Job(job.batch, job.gears, job.aipp, job.mode)
    facts: Mapping[str, Any] = {
        "graph": graph_of(job, described).sha256,
        "arguments": command_of(spoken, described, soc_version).arguments(),
        "aipp": aipp_text(described.preprocessing) if job.aipp else None,
        "toolkit": toolkit,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
