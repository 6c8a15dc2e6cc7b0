"""Commands that add a faster variant for CPUs to a model directory: `quantize` and `openvino`."""

import enum
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.core.manifest import ONNX_INT8, Agreement, Figures
from model_build.cli.output import build_libraries, progress, refusals, say_above
from model_build.labelled import DRAWN, FOLDER, drawn, in_folder

if TYPE_CHECKING:
    from model_build.derive import Comparison


class Method(enum.StrEnum):
    """How the range of a tensor is told from the calibration crops."""

    PERCENTILE = "percentile"
    MINMAX = "minmax"


class Precision(enum.StrEnum):
    """What OpenVINO computes in."""

    BF16 = "bf16"
    FP32 = "fp32"


Directory = Annotated[Path, typer.Argument(help="A model directory written by export.")]
Labelled = Annotated[
    Path | None,
    typer.Option(help="Folder with query/ and bounding_box_test/ to compare with fp32 on; else drawn people."),
]
Pattern = Annotated[str, typer.Option(help="Its file names: auto, duke, market1501, msmt17, or a regular expression.")]
MaxLoss = Annotated[
    float, typer.Option(min=0, max=1, help="What rank-1 and mAP may lose, as a fraction; more is refused.")
]


def quantize(
    directory: Directory,
    calibration: Annotated[Path, typer.Option(help="Folder of pictures as the cameras give them; no labels needed.")],
    method: Annotated[Method, typer.Option(help="How ranges are told from them.")] = Method.PERCENTILE,
    crops: Annotated[int, typer.Option(min=16, help="At most so many of the pictures.")] = 256,
    labelled: Labelled = None,
    pattern: Pattern = "auto",
    max_loss: MaxLoss = 0.01,
) -> None:
    """Add the variant onnx-int8: three times as fast on a CPU with VNNI. Its loss against fp32 is measured first."""
    with refusals():
        with build_libraries():
            from model_build.derive import add_int8, steps
            from model_build.quantize import read_sample
        with progress() as bar:
            task = bar.add_task("reading crops")
            sample = read_sample(calibration, crops, say_above(bar))
            comparison = _comparison(labelled, pattern, max_loss)
            bar.update(task, total=steps(comparison, sample))
            report: Callable[[str], None] = lambda what: bar.update(task, advance=1, description=what)  # noqa: E731
            agreement = add_int8(directory, sample, method.value, comparison, report)
        _print(f"{directory}: {ONNX_INT8}, ranges by {method} of {len(sample.crops)} crops", agreement)


def openvino(
    directory: Directory,
    precision: Annotated[Precision, typer.Option(help="What OpenVINO computes in.")] = Precision.BF16,
    labelled: Labelled = None,
    pattern: Pattern = "auto",
    max_loss: MaxLoss = 0.01,
) -> None:
    """Add the variant openvino-bf16: twice as fast on an x86 CPU that computes in bfloat16. Measured against fp32."""
    with refusals():
        with build_libraries():
            from model_build.derive import OPENVINO_VARIANTS, add_openvino, steps
        with progress() as bar:
            task = bar.add_task("reading crops")
            comparison = _comparison(labelled, pattern, max_loss)
            bar.update(task, total=steps(comparison))
            report: Callable[[str], None] = lambda what: bar.update(task, advance=1, description=what)  # noqa: E731
            agreement = add_openvino(directory, precision.value, comparison, report)
        _print(f"{directory}: {OPENVINO_VARIANTS[precision.value]}", agreement)


def _comparison(labelled: Path | None, pattern: str, max_loss: float) -> "Comparison":
    from model_build.agreement import Bounds
    from model_build.derive import Comparison

    examples = in_folder(labelled, pattern) if labelled else drawn()
    return Comparison(examples, FOLDER if labelled else DRAWN, Bounds(loss=max_loss))


def _print(made: str, agreement: Agreement) -> None:
    typer.echo(made)
    typer.echo(
        f"cosine to fp32 at least {agreement.cosine_min:.4f}, {agreement.cosine_mean:.4f} in the mean; for "
        f"{agreement.same_nearest * 100:.1f} % of the queries the nearest crop of another camera is the same one"
    )
    table = Table("", "mAP %", "95 %", "rank-1 %", "95 %", box=None, pad_edge=False)
    rows = {"fp32": agreement.fp32, "variant": agreement.variant, "change": agreement.change}
    for name, figures in rows.items():
        table.add_row(name, *_cells(figures))
    Console().print(table)
    typer.echo(f"{agreement.queries} queries, {agreement.gallery} gallery crops of {agreement.data}, protocol instance")


def _cells(figures: Figures) -> list[str]:
    pairs = [(figures.mAP, figures.interval95.mAP), (figures.rank1, figures.interval95.rank1)]
    return [text for mean, (low, high) in pairs for text in (_percent(mean), f"{_percent(low)} to {_percent(high)}")]


def _percent(share: float) -> str:
    return f"{share * 100:.2f}"
