"""Which OMs are loaded, and what is known of a chip before they are."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from app.adapters.ascend.chip import Need, check_chip, choose, om_file
from app.adapters.ascend.npu_smi import Chip
from app.core.manifest import Artefact, Compiled
from app.errors import BadDevice, BadModelDirectory, BadSettings, DeviceFailed

MB = 2**20


def om(batch: int | None, gears: tuple[int, ...] = (), weight_bytes: int | None = None) -> Artefact:
    compiled = Compiled(
        dtype="float32", layout="NCHW", soc_version="Ascend310P3", precision_mode="force_fp16", cann_version="8.1.RC1",
        gears=gears, inputs_sha256="0" * 64, weight_bytes=weight_bytes, work_bytes=30 * MB if weight_bytes else None,
    )  # fmt: skip
    name = "model_dyn.om" if batch is None else f"model_bs{batch}.om"
    return Artefact(file=name, sha256="1" * 64, size_bytes=50 * MB, variant="om-fp16", batch=batch, compiled=compiled)


STATIC, DYNAMIC = [om(1), om(4), om(8)], om(None, gears=(1, 8, 16))


@pytest.mark.parametrize(
    ("artefacts", "sizes", "chosen"),
    [
        (STATIC, (), [("model_bs1.om", (1,)), ("model_bs4.om", (4,)), ("model_bs8.om", (8,))]),
        (STATIC, (4,), [("model_bs4.om", (4,))]),
        ([DYNAMIC], (), [("model_dyn.om", (1, 8, 16))]),
        ([DYNAMIC], (8,), [("model_dyn.om", (8,))]),
        ([*STATIC, DYNAMIC], (), [("model_bs1.om", (1,)), ("model_bs4.om", (4,)), ("model_bs8.om", (8,))]),
        ([*STATIC, DYNAMIC], (4, 8, 16), [("model_bs4.om", (4,)), ("model_bs8.om", (8,)), ("model_dyn.om", (16,))]),
    ],
)
def test_a_size_is_run_by_a_static_om_where_there_is_one(
    artefacts: Sequence[Artefact], sizes: tuple[int, ...], chosen: list[tuple[str, tuple[int, ...]]]
) -> None:
    assert [(artefact.file, use) for artefact, use in choose(artefacts, sizes)] == chosen


def test_a_size_that_was_not_compiled_is_refused_with_those_that_were() -> None:
    with pytest.raises(BadSettings, match="no OM for batch size 2, 64; there are 1, 4, 8"):
        choose(STATIC, (1, 2, 64))


def test_a_dynamic_om_is_as_large_as_its_last_gear_even_when_that_is_not_used() -> None:
    file = om_file(Path("model"), DYNAMIC, (8,))
    assert (file.sizes, file.largest, file.dynamic) == ((8,), 16, True)


def test_what_is_no_om_is_refused() -> None:
    graph = Artefact(file="model.onnx", sha256="1" * 64, size_bytes=1, variant="om-fp16")
    with pytest.raises(BadModelDirectory, match=r"model\.onnx is no OM"):
        choose([graph])


def chip(name: str = "310P3", used_mb: int | None = 1074, total_mb: int | None = 21534) -> Chip:
    return Chip(0, 0, 0, name, "OK", used_mb, total_mb, "0000:82:00.0")


def test_memory_is_summed_over_the_oms_with_what_each_tells() -> None:
    # 45 + 30 as the OM tells, and 50 for a file that tells nothing.
    assert Need.of([om(1, weight_bytes=45 * MB), om(4)]).memory_bytes == 125 * MB


def test_want_of_memory_is_refused_with_both_figures_and_may_pass() -> None:
    need = Need(("Ascend310P3",), 500 * MB)
    check_chip(0, need, lambda: [chip()])
    with pytest.raises(DeviceFailed, match=r"need at least 500 MB, ascend:0 has 434 of 21534 MB free"):
        check_chip(0, need, lambda: [chip(used_mb=21100)])


def test_another_kind_of_chip_is_refused_with_the_command_that_helps() -> None:
    with pytest.raises(BadDevice, match=r"is Ascend310P1, the OMs are for Ascend310P3; .* --soc-version Ascend310P1"):
        check_chip(0, Need(("Ascend310P3",), 0), lambda: [chip("310P1")])


def no_tool() -> Sequence[Chip]:
    raise BadDevice("npu-smi is not on the PATH")


@pytest.mark.parametrize("look", [no_tool, list, lambda: [chip(used_mb=None, total_mb=None)]])
def test_what_cannot_be_known_beforehand_is_left_to_the_device(look: object) -> None:
    check_chip(0, Need(("Ascend310P3",), 500 * MB), look)  # type: ignore[arg-type]  # a list as a function of nothing
