"""The demo model's accuracy on drawn people, cameras and seeds it never saw, beside colour stripes.

    python -m model_build.demo_table app/demo/model

Rows: 100 persons, 40 distractors, 6 cameras; the `instance` protocol; `hard` 0.5. The seeds were fixed before training.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.adapters.model_directory import ModelDirectory
from app.adapters.onnx import OnnxEmbedder
from app.core.manifest import ONNX_FP32
from app.core.metrics import Labelled, Report
from app.core.preprocess import decode
from app.core.protocols import evaluate
from app.demo.dataset import DrawnCrop, Recipe, draw_dataset
from app.ports import batches

Crops = npt.NDArray[np.uint8]  # [n, 256, 128, 3]
ROWS = (Recipe(seed=101, persons=100, shift=0.6), Recipe(seed=102, persons=100, shift=1.0))
STRIPES, HUES, SATURATIONS = 6, 8, 7


def stripe_vectors(crops: Crops) -> npt.NDArray[np.float32]:
    """Histograms of hue and saturation of six stripes, from above to below: what clothes' colours alone can tell."""
    rows = []
    for crop in crops:
        hsv = np.asarray(Image.fromarray(crop).convert("HSV"))
        histograms = []
        for stripe in np.array_split(hsv, STRIPES):
            edges = (np.linspace(0, 256, HUES + 1), np.linspace(0, 256, SATURATIONS + 1))
            counts, *_ = np.histogram2d(stripe[..., 0].ravel(), stripe[..., 1].ravel(), bins=edges)
            histograms.append(np.sqrt(counts.ravel() / counts.sum()))
        rows.append(np.concatenate(histograms))
    return np.array(rows, dtype=np.float32)


def score(drawn: list[DrawnCrop], embed: Callable[[Crops], npt.NDArray[np.float32]]) -> Report:
    """The `instance` report of one way to make vectors."""
    sides = []
    for split in ("query", "bounding_box_test"):
        side = [crop for crop in drawn if crop.split == split]
        vectors = embed(np.stack([decode(crop.jpeg, crop.name) for crop in side]))
        sides.append(Labelled(vectors, np.array([c.person for c in side]), np.array([c.camera for c in side])))
    query, gallery = sides
    return evaluate(query, gallery, ["instance"])["instance"].report


def describe(recipe: Recipe, drawn: list[DrawnCrop]) -> str:
    """The first columns of a row."""
    queries = sum(crop.split == "query" for crop in drawn)
    return f"| {recipe.shift} | {recipe.hard} | {recipe.seed} | {queries} | {len(drawn) - queries} |"


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    directory = ModelDirectory.open(parser.parse_args().directory)
    manifest = directory.manifest
    embedder = OnnxEmbedder(directory.artefact(ONNX_FP32), manifest.variants[ONNX_FP32].fingerprint, manifest.dim)
    out = io.StringIO()
    out.write("| shift | hard | seed | queries | gallery | colour stripes rank-1 / mAP | demo model rank-1 / mAP |\n")
    out.write("| --- | --- | --- | --- | --- | --- | --- |\n")
    for recipe in ROWS:
        drawn = list(draw_dataset(recipe))
        stripes = score(drawn, stripe_vectors)
        model = score(drawn, lambda crops: np.concatenate(list(batches(embedder, crops))))
        cells = (f"{report.ranks[1]:.3f} / {report.mAP:.3f}" for report in (stripes, model))
        out.write(f"{describe(recipe, drawn)} {' | '.join(cells)} |\n")
    print(out.getvalue(), end="")


if __name__ == "__main__":
    main()
