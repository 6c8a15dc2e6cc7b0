"""Where a model fails: camera by camera, and query by query with the head of its ranking."""

from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

from app.cli.report.elements import NONE, add, percent, scrolling, section
from app.cli.report.pictures import HEIGHT, WIDTH, Pictures

Json = dict[str, Any]
_DEEPEST = 0.55  # opacity of the colour behind the lowest figure; text on it keeps a contrast of more than 4.5 to 1


def cameras(main: Element, pairs: Sequence[Json]) -> None:
    """A table of query camera against gallery camera, coloured by rank-1."""
    part = section(main, "Camera by camera")
    ranked = [pair["rank1"] for pair in pairs if pair["rank1"] is not None]
    if not ranked:
        add(part, "p", "No query has a right row in another camera alone, so there is nothing to compare.")
        return
    low, high = min(ranked), max(ranked)
    caption = (
        "Queries of one camera (row) against the crops of another one alone (column): rank-1 in percent, below it mAP and the "
        f"number of queries. The deeper the colour, the lower rank-1, from {percent(high)} to {percent(low)}."
    )
    grid = add(scrolling(part, "Camera by camera"), "table", class_="cameras")
    add(grid, "caption", caption)
    asked, kept = ({pair[side] for pair in pairs} for side in ("query_camera", "gallery_camera"))
    top = add(add(grid, "thead"), "tr")
    add(top, "th", "query \\ gallery", scope="col")
    columns, rows = sorted(kept, key=_natural), sorted(asked, key=_natural)
    for camera in columns:
        add(top, "th", camera, scope="col")
    found = {(pair["query_camera"], pair["gallery_camera"]): pair for pair in pairs}
    body = add(grid, "tbody")
    for camera in rows:
        row = add(body, "tr")
        add(row, "th", camera, scope="row")
        for other in columns:
            _cell(row, found.get((camera, other)), low, high)


def _cell(row: Element, pair: Json | None, low: float, high: float) -> None:
    if pair is None or pair["rank1"] is None:
        add(row, "td", NONE, class_="none")
        return
    depth = _DEEPEST * (high - pair["rank1"]) / (high - low) if high > low else 0.0
    cell = add(row, "td", style=f"background-color: rgb(var(--heat) / {depth:.2f})")
    add(cell, "strong", percent(pair["rank1"]))
    add(cell, "span", f"mAP {percent(pair['mAP'])}")
    add(cell, "span", f"n {pair['valid_queries']}")


def _natural(camera: str) -> tuple[int, str]:
    """Camera 2 before camera 10, numbers before names."""
    return (int(camera), "") if camera.isascii() and camera.isdigit() and len(camera) < 19 else (10**19, camera)


def worst(main: Element, queries: Sequence[Json], pictures: Pictures) -> None:
    """The queries of lowest average precision, each with its ranking."""
    part = section(main, "Worst queries")
    if not queries:
        add(part, "p", "There is none: every query that has a right row has its right rows first.")
        return
    add(
        part,
        "p",
        "By the protocol instance, lowest average precision first; rows of the query's person from its camera do not count.",
    )
    if pictures.root is None:
        add(part, "p", "Names alone: pictures are shown where a folder on this machine was evaluated.")
    for number, query in enumerate(queries, 1):
        _query(part, number, query, pictures)


def _query(part: Element, number: int, query: Json, pictures: Pictures) -> None:
    card = add(part, "article")
    add(
        card,
        "h3",
        f"{number}. Person {query['person_id']}, camera {query['camera_id']}: average precision "
        f"{percent(query['average_precision'])} %, first right row at rank {query['first_right']}",
    )
    listed = add(card, "ol", class_="ranking")
    asked = add(listed, "li", class_="query")
    _picture(asked, pictures.query(query["name"]), query, "the query")
    add(asked, "strong", "query")
    _label(asked, query)
    for rank, row in enumerate(query["ranking"], 1):
        right = bool(row["right"])
        entry = add(listed, "li", class_="right" if right else "wrong")
        word = "right" if right else "wrong"
        _picture(entry, pictures.gallery(row["name"]), row, f"rank {rank}, {word}")
        add(entry, "strong", f"{rank} {'✓' if right else '✗'} {word}")
        _label(entry, row)
        add(entry, "span", f"score {row['score']:.3f}")


def _picture(entry: Element, address: str | None, row: Json, what: str) -> None:
    if address is not None:
        says = f"{what}: person {row['person_id']}, camera {row['camera_id']}"
        add(entry, "img", src=address, alt=says, width=str(WIDTH), height=str(HEIGHT))


def _label(entry: Element, row: Json) -> None:
    add(entry, "span", f"person {row['person_id']}")
    add(entry, "span", f"camera {row['camera_id']}")
    if row["name"] is not None:
        add(entry, "span", row["name"], class_="name")
