"""`reid doctor`: is this installation sound?"""

import asyncio
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from app.cli.common import Data, JsonPath, Model, out, write_json
from app.cli.variants import tell_variants
from app.core.manifest import ACLRUNTIME, MANIFEST_FILE, parse_manifest
from app.engine import Lane
from app.errors import BadDevice, ReidError
from app.settings import Settings, read_settings
from app.wiring import facts, open_service, open_store


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    passed: bool
    found: str


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor)


def doctor(model: Model = None, data: Data = None, json: JsonPath = None) -> None:
    """Check versions, NPU, model directory, golden crops and data directory; measure the variants. Status 1 when something
    is wrong."""
    settings = read_settings(model_dir=model, data_dir=data)
    checks = [*_machine(), _npu(settings), asyncio.run(_model(settings)), *_variants(settings), _data(settings)]
    if not write_json(json, [asdict(check) for check in checks]):
        for check in checks:
            out.print("ok  " if check.passed else "FAIL", style="green" if check.passed else "red", end="")
            out.print(f"  {check.name}: {check.found}")
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


def _machine() -> Iterator[Check]:
    yield Check("machine", True, f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}")
    yield Check("versions", True, ", ".join(f"{name} {number}" for name, number in facts().items()))


def _npu(settings: Settings) -> Check:
    """The chips that npu-smi shows, and the library that runs OMs. No fault where the variant to serve needs neither."""
    from app.adapters.ascend.npu_smi import chips
    from app.adapters.ascend.probe import generation

    runtimes, has_tool = _runtimes(settings.model_dir), shutil.which("npu-smi") is not None
    if not has_tool and ACLRUNTIME not in runtimes.values():
        return Check("npu", True, "none")
    used = settings.devices or ("ascend:0",)
    found: list[str] = []
    sound = True
    try:
        shown = chips()
        found += map(str, shown)
        sound = all(chip.health == "OK" for chip in shown if f"ascend:{chip.device}" in used)
    except BadDevice as error:
        found.append(str(error))
        sound = not has_tool  # a container may have the chips without the tool; the model's check runs on them
    try:
        found.append(f"aclruntime: the generation of {generation()}")
    except BadDevice as error:
        found.append(str(error))
        sound = False
    return Check("npu", sound or runtimes.get(settings.variant) != ACLRUNTIME, "; ".join(found))


def _runtimes(directory: Path) -> Mapping[str, str]:
    """Of each variant; of none where there is no manifest to read, which the model's check tells."""
    try:
        manifest = parse_manifest((directory / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, ReidError):
        return {}
    return {name: variant.runtime for name, variant in manifest.variants.items()}


async def _model(settings: Settings) -> Check:
    """Every file's hash, a run of each batch size, and the golden crops."""
    try:
        async with open_service(settings, stored=False) as service:
            await service.start()
            if not service.readiness.ready:
                return Check("model", False, service.readiness.sentence)
            name = f"{service.model.label}; {service.model.fingerprint}"
            return Check("model", True, "; ".join([name, *map(_device, service.engine.lanes)]))
    except ReidError as error:
        return Check("model", False, str(error))


def _device(lane: Lane) -> str:
    if lane.proof is None:
        return f"{lane.name} is {lane.state}: {lane.sentence}"
    times = ", ".join(f"{size}: {ms:.1f}" for size, ms in lane.proof.batch_ms.items())
    return f"{lane.name}: golden cosine {lane.proof.golden_cosine:.6f}, ms by batch size {times}"


def _variants(settings: Settings) -> Iterator[Check]:
    """Which variant would be faster here, and what it would cost. Never a fault: what serves was checked before."""
    try:
        yield from (Check(f"variant {told.name}", True, told.sentence) for told in tell_variants(settings))
    except ReidError as error:
        yield Check("variants", True, f"not looked at: {error}")


def _data(settings: Settings) -> Check:
    """Whether the data directory opens, if there is one; a missing one is not made."""
    path = settings.data_dir
    if not path.exists():
        return Check("data", True, f"{path} is not there yet")
    try:
        store = open_store(settings)
    except ReidError as error:
        return Check("data", False, str(error))
    try:
        counts = ", ".join(f"{c.name} {store.count(c.name)}" for c in store.collections()) or "no collections"
    finally:
        store.close()
    return Check("data", True, f"{path}: {counts}; {shutil.disk_usage(Path(path)).free / 2**30:.1f} GiB free")
