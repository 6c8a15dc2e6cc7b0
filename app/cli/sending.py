"""Many crops or vectors to a server: in batches, some at once, and in smaller ones where a request was too large."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from app.cli.common import all_of, notes, progress
from app.client import CropFile, Json, VectorFile
from app.core.records import Label
from app.errors import ServerRefused

Row = TypeVar("Row")
File = TypeVar("File", CropFile, VectorFile)
_BATCH, _AT_ONCE = 32, 2  # two requests in flight: one is read and decoded while the other is embedded


async def send_rows(
    collection: str,
    rows: Sequence[Row],
    send: Callable[[Sequence[Row]], Awaitable[list[Json]]],
    refused: list[Json] | None = None,
) -> Counter[str]:
    """Send all rows; how many were added, unchanged, updated, refused.

    Refusals are added to `refused`, or printed where there is none.
    """
    counts: Counter[str] = Counter(added=0, unchanged=0, updated=0, refused=0)
    pieces = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
    with progress("crops") as bar:
        task = bar.add_task(f"indexing {collection}", total=len(rows))

        async def work() -> None:
            for piece in pieces:  # shared: each worker takes the next
                for result in await send(piece):
                    counts[result["status"]] += 1
                    if result.get("error"):
                        one = {"name": result["name"], "detail": result["error"]["detail"]}
                        if refused is None:
                            notes.print(f"refused: {one['detail']}", style="yellow")
                        else:
                            refused.append(one)
                bar.advance(task, len(piece))

        try:
            await all_of(work() for _ in range(_AT_ONCE))
        finally:
            if counts.total() < len(rows):
                notes.print(f"stopped: {counts.total()} of {len(rows)} crops were acknowledged and stay")
    return counts


async def add_in_halves(add: Callable[[Sequence[File]], Awaitable[list[Json]]], files: Sequence[File]) -> list[Json]:
    """Add files; where they are too many or too large for one request, in halves, down to the one that is too large."""
    try:
        return await add(files)
    except ServerRefused as error:
        if error.answered != 413:
            raise
        if len(files) == 1:
            return [refused(files[0].name, f"{files[0].name}: {len(files[0].data)} bytes; {error}")]
    half: int = len(files) // 2
    return [*await add_in_halves(add, files[:half]), *await add_in_halves(add, files[half:])]


def about(label: Label | None) -> dict[str, object]:
    """What a label says, in the server's words."""
    return {"person_id": label.person_id, "camera_id": label.camera_id} if label else {}


def refused(name: str, sentence: str) -> Json:
    """A result, as the server words it, for what was not sent at all."""
    return {"name": name, "status": "refused", "error": {"detail": sentence}}
