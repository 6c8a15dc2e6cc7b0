"""What a faster variant costs: the same labelled crops through it and through fp32, and how far the answers lie apart.

A cosine alone does not tell: at 0.998 one nearest neighbour of twenty is another one where crops are alike. So both are
measured as the field measures accuracy, and a variant that loses too much is refused.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np

from app.core.manifest import Agreement, Figures, Interval95
from app.core.metrics import Floats, Ints, Mask, Ranked, interval, lengths, unit
from app.core.preprocess import Crop, decode
from app.core.protocols import evaluate
from app.core.splits import Sides, Split, sides_of
from app.errors import BadImage, BadInput, TooLarge, VerificationFailed
from app.ports import Embedder
from model_build.labelled import Example

BATCH = 8  # crops at a time, in memory too
CHUNK = 128  # queries at a time
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a variant must reach to be written.

    cosine_mean: below it something is wrong, whatever the labels say. Sound int8 graphs of this network gave 0.9954 and more,
    with random weights and with the demo model's; ranges told from noise instead of people gave the latter 0.949, and its
    accuracy on a few easy persons did not show it. loss: of rank-1 and of mAP. One point is twice what one query of 240 makes,
    and more than the demo model's int8 graph lost (0.05).
    """

    cosine_mean: float = 0.99
    loss: float = 0.01


def measure(
    reference: Embedder, variant: Embedder, examples: Sequence[Example], data: str, beat: Say = lambda _: None
) -> Agreement:
    """Embed every example with both and compare. beat: told the name of each. Pictures that are none are left out.

    Raises BadInput where no query has a crop of its person that counts, VerificationFailed for vectors that are no numbers.
    """
    kept, vectors, crops_sha256 = _embed((reference, variant), examples, beat)
    if not kept:
        raise BadInput(f"no picture of {data} could be embedded")
    if not all(np.isfinite(of_one).all() for of_one in vectors):
        raise VerificationFailed(f"a vector of a crop of {data} is not finite")
    cosines = (unit(vectors[0]) * unit(vectors[1])).sum(axis=1)
    sides = [_sides(kept, of_one) for of_one in vectors]
    results = [evaluate(side.query, side.gallery, ["instance"])["instance"] for side in sides]
    if results[0].report.mAP is None:
        raise BadInput(f"{data} cannot tell two variants apart: {results[0].report.reason}")
    return Agreement(
        data=data,
        queries=results[0].report.valid_queries,
        gallery=results[0].report.gallery,
        crops_sha256=crops_sha256,
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        same_nearest=_same_nearest(sides[0], sides[1]),
        fp32=_figures(results[0].ranked),
        variant=_figures(results[1].ranked),
        change=_figures(results[1].ranked, results[0].ranked),
    )


def check(name: str, found: Agreement, bounds: Bounds) -> None:
    """Raises VerificationFailed, with all that is wrong in one sentence."""
    lost = {"rank-1": -found.change.rank1, "mAP": -found.change.mAP}
    wrong = [f"{figure} falls by {by * 100:.2f} points" for figure, by in lost.items() if not by <= bounds.loss]
    if wrong:
        wrong[-1] += f" ({bounds.loss * 100:g} allowed)"
    if not found.cosine_mean >= bounds.cosine_mean:  # so that NaN fails as well
        wrong.append(f"the mean cosine to fp32 is {found.cosine_mean:.4f} ({bounds.cosine_mean:g} is needed)")
    if wrong:
        measured = f"{found.queries} queries, {found.gallery} gallery crops of {found.data}"
        raise VerificationFailed(f"{name} is not written: {', '.join(wrong)}; measured with {measured}")


def _embed(
    embedders: Sequence[Embedder], examples: Sequence[Example], beat: Say
) -> tuple[list[Example], list[Floats], str]:
    """The examples that are pictures, each embedder's vectors of them, and a hash over them as the network sees them."""
    hashed, kept, found = hashlib.sha256(), list[Example](), [list[Floats]() for _ in embedders]
    decoded = _decode(examples, beat)
    while some := list(islice(decoded, BATCH)):
        crops = [crop for _, crop in some]
        kept.extend(example for example, _ in some)
        for crop in crops:
            hashed.update(crop.tobytes())
        for embedder, rows in zip(embedders, found, strict=True):
            rows.append(embedder.embed(crops))
    return kept, [np.concatenate(rows) for rows in found if rows], hashed.hexdigest()


def _decode(examples: Sequence[Example], beat: Say) -> Iterator[tuple[Example, Crop]]:
    """Pictures that are none are left out, as an evaluation leaves them out."""
    for example in examples:
        beat(example.name)
        with suppress(BadImage, TooLarge):
            yield example, decode(example.read(), example.name)


def _sides(examples: Sequence[Example], vectors: Floats) -> Sides:
    def split(asked: bool) -> Split:
        rows = [row for row, example in enumerate(examples) if example.asked == asked]
        return Split(vectors[rows], [examples[row].label for row in rows])

    return sides_of(split(asked=True), split(asked=False))


def _figures(ranked: Ranked, less: Ranked | None = None) -> Figures:
    """Of the valid queries; or how they differ from another ranking of the same queries, which chance moves alike."""
    valid = ranked.valid
    precision, hit = ranked.precision[valid], (ranked.first[valid] == 1).astype(np.float64)
    if less is not None:
        precision, hit = precision - less.precision[valid], hit - (less.first[valid] == 1)
    found = interval(precision, hit)
    return Figures(
        mAP=float(precision.mean()),
        rank1=float(hit.mean()),
        interval95=Interval95(mAP=found.mAP, rank1=found.rank1),
    )


def _same_nearest(one: Sides, other: Sides) -> float:
    """Share of queries whose nearest crop of another camera is the same in both; those that have one count."""
    same = list[Mask]()
    for start in range(0, len(one.query.pids), CHUNK):
        here = slice(start, start + CHUNK)
        hidden = one.query.camids[here, None] == one.gallery.camids
        nearest = [_nearest(side, here, hidden) for side in (one, other)]
        same.append((nearest[0] == nearest[1])[~hidden.all(axis=1)])
    return float(np.concatenate(same).mean())


def _nearest(side: Sides, here: slice, hidden: Mask) -> Ints:
    scores = unit(side.query.vectors[here]) @ side.gallery.vectors.T / lengths(side.gallery.vectors)
    return np.asarray(np.where(hidden, -np.inf, scores).argmax(axis=1))
