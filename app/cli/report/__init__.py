"""An evaluation as one page of HTML: figures, curves, cameras, and the queries that went wrong.

The page is whole in its file: it asks nobody for anything, runs no script, and opens from a disk or a mail.
"""

from pathlib import Path
from typing import Any

from app.cli.report.pictures import Pictures
from app.errors import BadSettings
from app.files import whole_file


def write_html(path: Path, answer: dict[str, Any], folder: Path | None) -> None:
    """Write the page of an answer of POST /v1/evaluate. folder: what was evaluated, whose pictures may be shown.

    Raises BadSettings where the library of the plots is missing.
    """
    require_plots()
    from app.cli.report.page import document

    text = document(answer, Pictures.of(folder))
    with whole_file(path) as partial:
        partial.write_bytes(text.encode("utf-8", "replace"))  # a file's name may hold bytes that are no text


def require_plots() -> None:
    """Raises BadSettings where the library of the plots is missing; to be asked before an evaluation that takes long."""
    try:
        import app.cli.report.plots  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        raise BadSettings(
            "the page's plots need matplotlib, which is not installed: install the extra `report` "
            "(pip install 'reid-service[report]')"
        ) from error
