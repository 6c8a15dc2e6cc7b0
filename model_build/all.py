"""A checkpoint to a model directory with OMs in it: export, verify, compile, verify again; manifest last, or nothing."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from app.adapters.model_directory import ModelDirectory
from app.core.manifest import Artefact, ModelManifest
from app.errors import BadModelDirectory
from model_build.build import Built, Draft, Options, Report, build, steps
from model_build.checkpoint import Weights
from model_build.compile import Workshop, keep, make, oms_of, with_oms
from model_build.plan import plan
from model_build.verify import Npu, Row, verify_oms, worst


def steps_of_all(options: Options, workshop: Workshop) -> int:
    """How often `build_all` reports: as `build`, and once for each OM's making and once for their verification."""
    return steps(options) + len(plan(workshop.options)) + 1


def build_all(
    weights: Weights, output: Path, options: Options, workshop: Workshop, npu: Npu, now: datetime, report: Report
) -> Built:
    """Write the directory, or nothing. OMs of an earlier build in `output` stay where they would come out the same.

    Raises what `build` and `compile_directory` raise, and VerificationFailed for an OM whose vectors are not torch's.
    """
    plan(workshop.options)  # a wrong wish is refused before the long work

    def finish(draft: Draft) -> Draft:
        oms, kept = _compile(draft, _earlier(output), workshop, report)
        report("golden crops through the OMs")
        rows = _verify(draft, oms, kept, output, workshop, npu)
        manifest = with_oms(draft.manifest, oms)
        reached = {name: worst(of_one) for name, of_one in rows.items() if of_one}
        verified = manifest.model_copy(update={"verification": {**manifest.verification, **reached}})
        every = (*draft.rows, *(row for of_one in rows.values() for row in of_one))
        return replace(draft, manifest=verified, rows=every)

    return build(weights, output, options, now, report, finish=finish)


def _earlier(output: Path) -> ModelManifest | None:
    """The manifest of a whole model directory in `output`."""
    try:
        return ModelDirectory.open(output).manifest
    except BadModelDirectory:
        return None


def _compile(
    draft: Draft, earlier: ModelManifest | None, workshop: Workshop, report: Report
) -> tuple[list[Artefact], frozenset[str]]:
    """All OMs of the new directory, and which of them lie in the old one already."""
    there = keep(earlier, draft.manifest, workshop) if earlier is not None else []
    jobs = plan(workshop.options)
    oms = list(there)
    for job in jobs:
        report(f"compiling {job.file}")
        oms.extend(make([job], draft.manifest, there, draft.folder, draft.folder, workshop))
    return oms, frozenset(om.file for om in there)


def _verify(
    draft: Draft, oms: list[Artefact], kept: frozenset[str], output: Path, workshop: Workshop, npu: Npu
) -> dict[str, list[Row]]:
    """Rows by variant; none of a variant that no chip here can run, which is said."""
    described = with_oms(draft.manifest, oms)
    rows: dict[str, list[Row]] = {}
    for om in oms_of(described):
        folder = output if om.file in kept else draft.folder
        fingerprint = described.variant(om.variant or "").fingerprint
        rows.setdefault(om.variant or "", []).extend(
            verify_oms(folder, [om], draft.golden, fingerprint, npu, skip=workshop.say)
        )
    return rows
