"""Options that several commands share, and how their text is read."""

import typer

MAX_BATCH = 256


def batch_sizes(text: str) -> tuple[int, ...]:
    """`1,4,8` to (1, 4, 8), ascending; `none` to (). Raises typer.BadParameter."""
    if text.strip() == "none":
        return ()
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 1,4,8,16") from error
    if not 1 <= sizes[0] <= sizes[-1] <= MAX_BATCH:
        raise typer.BadParameter(f"batch sizes lie between 1 and {MAX_BATCH}")
    return tuple(sizes)
