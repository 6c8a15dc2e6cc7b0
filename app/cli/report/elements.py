"""HTML as a tree: what is put in as text or as an attribute is escaped when the tree is written, without exception."""

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

NONE = "-"  # where there is no figure


def add(parent: Element, tag: str, text: str | None = None, **attributes: str) -> Element:
    """A new child. `class_` stands for class, `aria_label` for aria-label."""
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    child = SubElement(parent, tag, named)
    child.text = text
    return child


def written(root: Element) -> str:
    """The document as text."""
    return "<!doctype html>\n" + tostring(root, encoding="unicode", method="html") + "\n"


def section(main: Element, title: str, *sentences: str) -> Element:
    """A part of the page with its heading, and sentences below it."""
    part = add(main, "section")
    add(part, "h2", title)
    for sentence in sentences:
        add(part, "p", sentence)
    return part


def scrolling(parent: Element, label: str) -> Element:
    """A box for what may be wider than the page; the keyboard reaches and scrolls it."""
    return add(parent, "div", class_="wide", tabindex="0", role="region", aria_label=label)


def table(parent: Element, caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Element:
    """The first cell of each row is its heading."""
    made = add(scrolling(parent, caption), "table")
    add(made, "caption", caption)
    top = add(add(made, "thead"), "tr")
    for cell in head:
        add(top, "th", cell, scope="col")
    body = add(made, "tbody")
    for first, *others in rows:
        row = add(body, "tr")
        add(row, "th", first, scope="row")
        for cell in others:
            add(row, "td", cell)
    return made


def plot(parent: Element, drawing: Element, says: str, caption: str) -> None:
    """A figure; `says` is for those who do not see it."""
    figure = add(parent, "figure")
    drawing.set("role", "img")
    drawing.set("aria-label", says)
    figure.append(drawing)
    add(figure, "figcaption", caption)


def percent(share: float | None) -> str:
    """For people: 96.8 for 0.968."""
    return NONE if share is None else f"{share * 100:.1f}"


def ends(pair: Sequence[float] | None) -> str:
    """An interval in percent."""
    return NONE if pair is None else f"{pair[0] * 100:.1f} to {pair[1] * 100:.1f}"
