"""A report as one page of HTML, whole in its file: figures, curves, runs, stages, processes. It asks nobody for anything.

The curves are pictures of their own, in data URLs.
"""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from app.cli import report as pages
from app.cli.report.elements import NONE, add, section, table, written
from app.files import whole_file
from tests.load import plots
from tests.load.report import Report
from tests.load.run import Run

_STYLE = Path(pages.__file__).with_name("page.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_MIB = 2**20


def write_page(path: Path, report: Report) -> None:
    """Write the page."""
    with whole_file(path) as partial:
        partial.write_text(document(report), encoding="utf-8")


def document(report: Report) -> str:
    """The whole page."""
    root = Element("html", lang="en")
    head = add(root, "head")
    add(head, "meta", charset="utf-8")
    add(head, "meta", http_equiv="Content-Security-Policy", content=_POLICY)
    add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    add(head, "title", f"Load: {report.scenario}")
    add(head, "style", _STYLE.read_text(encoding="utf-8"))
    body = add(root, "body")
    header = add(body, "header")
    add(header, "h1", f"Load: {report.scenario}")
    add(header, "p", " · ".join(f"{key} {value}" for key, value in report.conditions.items()))
    main = add(body, "main")
    _validity(main, report)
    _figures(main, report)
    _curves(main, [run for run in report.runs if run.load.offered_per_s])
    _runs(main, report.runs)
    _stages(main, report.runs)
    _processes(main, report.runs)
    return written(root)


def _validity(main: Element, report: Report) -> None:
    if not report.invalid:
        section(main, "These runs hold", "Neither the generator nor other processes were the bottleneck of any run.")
        return
    part = section(main, "Invalid: not to be quoted", "Something else than the server may have been the bottleneck:")
    rows = add(part, "ul")
    for why in report.invalid:
        add(rows, "li", why)


def _figures(main: Element, report: Report) -> None:
    if report.figures:
        rows = [
            (
                f.name,
                f"{f.value:.3f}",
                _wanted(f.at_least, f.at_most),
                {True: "yes", False: "no", None: NONE}[f.reached],
                f.of,
            )
            for f in report.figures
        ]
        part = section(main, "Figures")
        table(part, "What was asked and what was found", ("figure", "value", "asked", "reached", "made of"), rows)


def _wanted(at_least: float | None, at_most: float | None) -> str:
    if at_least is not None:
        return f"at least {at_least:g}"
    return NONE if at_most is None else f"at most {at_most:g}"


def _curves(main: Element, runs: Sequence[Run]) -> None:
    if not runs:
        return
    part = section(main, "Against offered load", "Open loop: requests are due by the clock; latency counts from when.")
    beside = add(part, "div", class_="beside")
    _plot(beside, "Latency of good answers: p50 whole, p99 dashed", plots.latency(runs))
    _plot(beside, "Goodput; on the diagonal everything is answered in time", plots.goodput(runs))


def _plot(parent: Element, caption: str, url: str) -> None:
    figure = add(parent, "figure")
    add(figure, "img", src=url, alt=caption, style="max-width: 100%")
    add(figure, "figcaption", caption)


def _runs(main: Element, runs: Sequence[Run]) -> None:
    rows = []
    for run in runs:
        latency, errors = run.latency_ms, run.taken.errors()
        times = [f"{latency[key]:.1f}" for key in ("p50", "p95", "p99")]
        said = "; ".join(f"{count} x {kind}" for kind, count in errors.items()) or NONE
        rates = [f"{run.throughput_per_s:.1f}", f"{run.goodput_per_s:.1f}"]
        rows.append(
            (f"{run.target}, {run.load}", *rates, *times, str(latency["of"]), said, "no" if run.invalid else "yes")
        )
    head = ("run", "answers/s", "in time/s", "p50 ms", "p95 ms", "p99 ms", "answers", "errors", "holds")
    part = section(
        main, "Runs", f"A p99 of fewer than 1,000 answers hangs on a few of them; see the column “{head[6]}”."
    )
    table(part, "Latency counts from when a request was due, over good answers only", head, rows)


def _stages(main: Element, runs: Sequence[Run]) -> None:
    rows = [
        (f"{run.target}, {run.load}: {stage}", *(f"{times[key]:.2f}" for key in ("p50", "p95", "p99")))
        for run in runs
        for stage, times in run.as_json()["stages_ms"].items()
    ]
    if rows:
        part = section(main, "Where the server says the time went", "Server-Timing of good answers.")
        table(part, "Milliseconds by stage", ("stage", "p50", "p95", "p99"), rows)


def _processes(main: Element, runs: Sequence[Run]) -> None:
    rows = []
    for run in runs:
        usage = run.usages[-1]
        for one in usage.processes:
            sizes = [f"{size / _MIB:.0f}" for size in (one.rss_bytes, one.pss_bytes, one.peak_rss_bytes)]
            rows.append((f"{run.target}, {run.load}: {one.role} {one.name} {one.pid}", f"{one.cores:.2f}", *sizes))
        rows.append((f"{run.target}, {run.load}: all others", f"{usage.others_cores:.2f}", NONE, NONE, NONE))
    part = section(
        main, "Processes", "Processor time of each over the run's time, memory at its end, of the last round."
    )
    table(part, "1.00 is one core", ("process", "cores", "RSS MiB", "PSS MiB", "peak RSS MiB"), rows)
