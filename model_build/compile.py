"""A model directory's ONNX files to OMs with ATC, one after another; torch is not needed, and onnx only for sizes that
`export` did not write.

Each OM enters the manifest as soon as it is made, so a stopped compilation goes on where it was. The directory is whole
at every moment: what a file is about to replace leaves the manifest first.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.adapters.model_directory import ModelDirectory, sha256_of
from app.core.manifest import ACLRUNTIME, MANIFEST_FILE, Artefact, Compiled, ModelManifest, Variant, fingerprint
from app.errors import BadModelDirectory, BadSettings
from model_build.aipp import aipp_text
from model_build.atc import read_facts, run_atc
from model_build.plan import CompileOptions, Job, command_of, graph_of, inputs_sha256, plan
from model_build.staging import publish, staging
from model_build.toolkit import Toolkit

Say = Callable[[str], None]  # a sentence for people
Watch = Callable[[str, float, str], None]  # the OM in work, seconds since its start, ATC's latest line


def _unwatched(_om: str, _elapsed_s: float, _line: str) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What compiling takes besides the graphs. `logs` is where each OM's log is kept, also a failed one's."""

    options: CompileOptions
    toolkit: Toolkit
    logs: Path
    say: Say = print
    watch: Watch = _unwatched
    done: Callable[[], None] = lambda: None  # one OM less to come


@dataclass(frozen=True, slots=True)
class Outcome:
    """The directory, and which of the OMs asked for were made now."""

    directory: ModelDirectory
    made: tuple[str, ...]
    asked: tuple[str, ...]


def compile_directory(path: Path, workshop: Workshop) -> Outcome:
    """Make what is asked for and not there yet. Raises BadModelDirectory, BadSettings, CompileFailed."""
    jobs = plan(workshop.options)
    if not path.is_dir():
        raise BadModelDirectory(f"{path} is no directory")
    made: list[Artefact] = []
    with staging(path) as scratch:
        before = now = ModelDirectory.open(path).manifest
        kept = keep(before, before, workshop)
        for artefact in make(jobs, before, kept, path, scratch, workshop):
            made.append(artefact)
            now = _publish(scratch, path, now, with_oms(before, [*kept, *made]))
        if not made and len(kept) < len(oms_of(before)):
            _publish(scratch, path, now, with_oms(before, kept))
    return Outcome(ModelDirectory.open(path), tuple(om.file for om in made), tuple(job.file for job in jobs))


def oms_of(described: ModelManifest) -> tuple[Artefact, ...]:
    """The OMs that a manifest names."""
    return tuple(artefact for artefact in described.artefacts if artefact.compiled is not None)


def log_of(om: str) -> str:
    """Name of the file in which ATC's words about an OM are kept."""
    return f"{om}.log"


def keep(earlier: ModelManifest, described: ModelManifest, workshop: Workshop) -> list[Artefact]:
    """The OMs of an earlier manifest that still hold. Those that do not are named.

    Of other variants than the one asked for: where the weights are the same. Of that one: where it would come out the
    same again.
    """
    variant = plan(workshop.options)[0].variant
    kept = []
    for om in oms_of(earlier):
        assert om.compiled is not None  # an OM is what has it
        name = om.variant or ""
        if fingerprint_of(name, described) != earlier.variant(name).fingerprint:
            workshop.say(f"{om.file} does not hold any more: it has other weights")
        elif name == variant and not _holds(om, om.compiled, described, workshop):
            workshop.say(f"{om.file} does not hold any more: {_why(om.compiled, workshop)}")
        else:
            kept.append(om)
    return kept


def make(
    jobs: Sequence[Job],
    described: ModelManifest,
    kept: Sequence[Artefact],
    folder: Path,
    scratch: Path,
    workshop: Workshop,
) -> Iterator[Artefact]:
    """The jobs' OMs that are not among those kept, each as soon as it lies in `scratch`. The graphs lie in `folder`."""
    there = {om.file for om in kept}
    for job in jobs:
        if job.file in there:
            workshop.say(f"{job.file} is there already, of the same graph, options and toolkit")
        else:
            yield _make_one(job, described, folder, scratch, workshop)
        workshop.done()


def with_oms(described: ModelManifest, oms: Sequence[Artefact]) -> ModelManifest:
    """The manifest with these OMs and no others. A verification stays where its variant's files are what they were."""
    rest = [artefact for artefact in described.artefacts if artefact.compiled is None]
    artefacts = (*rest, *sorted(oms, key=lambda om: (om.variant or "", om.batch or 0)))
    names = {artefact.variant for artefact in artefacts}
    variants = {name: fact for name, fact in described.variants.items() if (fact.graph or name) in names}
    for om in oms:
        if om.variant and om.compiled and om.variant not in variants:
            variants[om.variant] = Variant(
                fingerprint=fingerprint_of(om.variant, described),
                precision=Job.of(om, om.compiled).precision,
                runtime=ACLRUNTIME,
            )
    same = {n for n in variants if _shas(described.artefacts, n) == _shas(artefacts, n)}
    verification = {name: fact for name, fact in described.verification.items() if name in same}
    return described.model_copy(update={"artefacts": artefacts, "variants": variants, "verification": verification})


def fingerprint_of(variant: str, described: ModelManifest) -> str:
    """A variant's, with the manifest's weights and preprocessing."""
    return fingerprint(described.checkpoint.weights_sha256, described.preprocessing, variant)


def _make_one(job: Job, described: ModelManifest, folder: Path, scratch: Path, workshop: Workshop) -> Artefact:
    options, toolkit, started = workshop.options, workshop.toolkit, time.monotonic()
    command = command_of(job, described, options.soc_version)
    workshop.say(f"{job.file}: atc begins")
    with tempfile.TemporaryDirectory(prefix="atc-", dir=scratch, ignore_cleanup_errors=True) as name:
        work = Path(name)
        _write_graph(job, graph_of(job, described), folder, work / command.model)
        if command.aipp is not None:
            (work / command.aipp).write_text(aipp_text(described.preprocessing), encoding="utf-8")
        made = run_atc(
            command,
            work,
            toolkit,
            workshop.logs / log_of(job.file),
            options.timeout_s,
            beat=lambda elapsed_s, line: workshop.watch(job.file, elapsed_s, line),
        )
        facts = read_facts(made, toolkit)
        os.replace(made, scratch / job.file)
    if facts.soc_version not in (None, options.soc_version):
        workshop.say(f"{job.file} says that it is for {facts.soc_version}; asked was for {options.soc_version}")
    workshop.say(f"{job.file}: made in {time.monotonic() - started:.0f} s")
    return Artefact(
        file=job.file,
        sha256=sha256_of(scratch / job.file),
        size_bytes=(scratch / job.file).stat().st_size,
        variant=job.variant,
        batch=job.batch,
        compiled=Compiled(
            dtype="uint8" if job.aipp else "float32",  # AIPP's input is uint8 NHWC whatever was said [ATC manual]
            layout="NHWC" if job.aipp else "NCHW",
            soc_version=options.soc_version,
            precision_mode=job.mode,
            cann_version=toolkit.version or facts.cann_version,
            gears=job.gears,
            inputs_sha256=inputs_sha256(job, described, options.soc_version, toolkit.identity),
            weight_bytes=facts.weight_bytes,
            work_bytes=facts.work_bytes,
        ),
    )


def _write_graph(job: Job, graph: Artefact, folder: Path, target: Path) -> None:
    """The graph that ATC reads: a copy of the file, or one of this batch size derived from the dynamic one."""
    if graph.batch == job.batch:
        shutil.copyfile(folder / graph.file, target)
        return
    assert job.batch is not None  # a dynamic batch is made of the dynamic file
    try:
        from model_build.graph import fix_batch, load, save
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise BadSettings(
            f"there is no ONNX file of batch size {job.batch}, and without the package onnx none can be derived: "
            f"pip install onnx, or export with --batch-sizes {job.batch}"
        ) from error
    save(fix_batch(load(folder / graph.file), job.batch), target)


def _holds(om: Artefact, compiled: Compiled, described: ModelManifest, workshop: Workshop) -> bool:
    wanted = inputs_sha256(Job.of(om, compiled), described, workshop.options.soc_version, workshop.toolkit.identity)
    return compiled.inputs_sha256 == wanted


def _why(compiled: Compiled, workshop: Workshop) -> str:
    if compiled.soc_version != workshop.options.soc_version:
        return f"it is for {compiled.soc_version}, not for {workshop.options.soc_version}"
    if compiled.cann_version != workshop.toolkit.version:
        return f"CANN {compiled.cann_version or 'of unknown version'} made it, here is {workshop.toolkit.version or 'another'}"
    return "its graph, its options or the toolkit have changed"


def _publish(scratch: Path, path: Path, now: ModelManifest, after: ModelManifest) -> ModelManifest:
    """Move what is new into the directory. What it replaces leaves the manifest before, and the disk at the end."""
    lasting = [om for om in oms_of(now) if om in after.artefacts]
    gone = {artefact.file for artefact in now.files()} - {artefact.file for artefact in after.files()}
    (scratch / MANIFEST_FILE).write_text(after.to_json(), encoding="utf-8")
    publish(scratch, path, gone | {log_of(file) for file in gone}, meanwhile=with_oms(now, lasting).to_json())
    return after


def _shas(artefacts: Sequence[Artefact], variant: str) -> set[str]:
    return {artefact.sha256 for artefact in artefacts if artefact.variant == variant}
