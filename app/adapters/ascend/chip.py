"""One chip: which OMs to load, whether they fit it, and the worker process that holds it."""

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.adapters.ascend.codes import with_causes
from app.adapters.ascend.npu_smi import Chip, chips
from app.adapters.ascend.session import AscendEmbedder, OmFile, load_library
from app.adapters.model_directory import ModelDirectory
from app.adapters.worker import Deadlines, WorkerEmbedder
from app.core.manifest import Artefact, Compiled
from app.errors import BadDevice, BadModelDirectory, BadSettings, DeviceFailed
from app.ports import Embedder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Need:
    """What a chip must be and have for these OMs."""

    soc_versions: tuple[str, ...]
    memory_bytes: int  # at least: an OM that does not tell its work memory counts with its weights alone

    @classmethod
    def of(cls, artefacts: Sequence[Artefact]) -> "Need":
        """Summed over OMs: each keeps its own weights and work memory while it is loaded."""
        total = 0
        for artefact in artefacts:
            compiled = _compiled(artefact)
            total += (compiled.weight_bytes or artefact.size_bytes) + (compiled.work_bytes or 0)
        return cls(tuple(sorted({_compiled(artefact).soc_version for artefact in artefacts})), total)


def open_variant(
    directory: ModelDirectory,
    variant: str,
    chip: int,
    sizes: Sequence[int] = (),
    deadlines: Deadlines = Deadlines(),
    stop: threading.Event | None = None,
) -> WorkerEmbedder:
    """A variant's OMs on a chip: those of the batch sizes given, else all. Raises as `open_ascend`."""
    fingerprint, dim = directory.manifest.variant(variant).fingerprint, directory.manifest.dim
    artefacts = [artefact for artefact in directory.manifest.artefacts if artefact.variant == variant]
    return open_ascend(directory.path, artefacts, fingerprint, dim, chip, sizes, deadlines, stop)


def open_ascend(
    folder: Path,
    artefacts: Sequence[Artefact],
    fingerprint: str,
    dim: int,
    chip: int,
    sizes: Sequence[int] = (),
    deadlines: Deadlines = Deadlines(),
    stop: threading.Event | None = None,
) -> WorkerEmbedder:
    """These OMs on a chip, in a worker process of their own; stop: as of `WorkerEmbedder`.

    Raises BadDevice where library, chip and OMs do not fit each other, BadModelDirectory for an artefact that is no OM,
    BadSettings for a size that none has, DeviceFailed where trying again may help.
    """
    chosen = choose(artefacts, sizes)
    files = tuple(om_file(folder, artefact, use) for artefact, use in chosen)
    opener = functools.partial(open_here, files, Need.of([artefact for artefact, _ in chosen]), fingerprint, dim, chip)
    largest = max(size for file in files for size in file.sizes)
    return WorkerEmbedder(f"ascend:{chip}", opener, largest, dim, deadlines, with_causes, stop)


def sizes_of(directory: ModelDirectory, variant: str) -> tuple[int, ...]:
    """The batch sizes that a variant's OMs run, ascending."""
    artefacts = [a for a in directory.manifest.artefacts if a.variant == variant]
    return tuple(sorted({size for a in artefacts for size in ((a.batch,) if a.batch else _compiled(a).gears)}))


def choose(artefacts: Sequence[Artefact], sizes: Sequence[int] = ()) -> list[tuple[Artefact, tuple[int, ...]]]:
    """The OMs to load, each with the sizes it is used for: a static one where there is one, for it is laid out ahead.

    Raises BadSettings, naming sizes that no OM has.
    """
    static = {artefact.batch: artefact for artefact in artefacts if artefact.batch is not None}
    dynamic = {gear: artefact for artefact in artefacts for gear in _compiled(artefact).gears}
    if missing := sorted(set(sizes) - {*static, *dynamic}):
        has = ", ".join(map(str, sorted({*static, *dynamic}))) or "none"
        raise BadSettings(f"no OM for batch size {', '.join(map(str, missing))}; there are {has}")
    wanted = sorted(set(sizes) or set(static) or set(dynamic))
    if not wanted:
        raise BadSettings("there is no OM to load; `python -m model_build compile` makes them")
    chosen: list[tuple[Artefact, tuple[int, ...]]] = [(static[size], (size,)) for size in wanted if size in static]
    if rest := tuple(size for size in wanted if size not in static):
        chosen.append((dynamic[rest[0]], rest))
    return chosen


def om_file(folder: Path, artefact: Artefact, use: tuple[int, ...]) -> OmFile:
    """Where an OM lies and how it is called."""
    compiled = _compiled(artefact)
    largest = artefact.batch or compiled.gears[-1]
    path = (folder / artefact.file).resolve()  # the worker has a working directory of its own
    return OmFile(path, use, largest, artefact.batch is None, compiled.dtype, compiled.layout)


def open_here(files: Sequence[OmFile], need: Need, fingerprint: str, dim: int, chip: int) -> Embedder:
    """In the worker: look at the chip from outside as far as that goes, then load."""
    library = load_library()
    check_chip(chip, need, chips)
    return AscendEmbedder(files, fingerprint, dim, chip, library)


def check_chip(chip: int, need: Need, look: Callable[[], Sequence[Chip]]) -> None:
    """Compare the need with what npu-smi shows. Raises BadDevice for another kind of chip, DeviceFailed for want of memory.

    Where npu-smi is not there or does not list the chip, ACL's own answer has to do.
    """
    try:
        found = next((seen for seen in look() if seen.device == chip), None)
    except BadDevice as error:
        log.info("ascend:%d cannot be looked at beforehand: %s", chip, error)
        return
    if found is None:
        return
    if other := [soc for soc in need.soc_versions if soc != found.soc_version]:
        raise BadDevice(
            f"ascend:{chip} is {found.soc_version}, the OMs are for {', '.join(other)}; build them for this chip: "
            f"python -m model_build compile DIR --soc-version {found.soc_version}"
        )
    if found.memory_used_mb is None or found.memory_total_mb is None:
        return
    free_mb, need_mb = found.memory_total_mb - found.memory_used_mb, need.memory_bytes / 2**20
    if need_mb > free_mb:
        raise DeviceFailed(
            f"the OMs need at least {need_mb:.0f} MB, ascend:{chip} has {free_mb} of {found.memory_total_mb} MB free; "
            "load fewer batch sizes (REID_BATCH_SIZES), or stop what else uses the chip"
        )


def _compiled(artefact: Artefact) -> Compiled:
    if artefact.compiled is None:
        raise BadModelDirectory(f"{artefact.file} is no OM")
    return artefact.compiled
