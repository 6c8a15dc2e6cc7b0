import json
from typing import Any

import pytest

from app.core.manifest import (
    GOLDEN_COSINE,
    Agreement,
    Artefact,
    Checkpoint,
    Figures,
    Interval95,
    ModelManifest,
    Preprocessing,
    Tensor,
    Variant,
    Verification,
    fingerprint,
    parse_manifest,
)
from app.errors import BadModelDirectory

SHA = "0123456789abcdef" * 4


def example(**changes: Any) -> ModelManifest:
    facts: dict[str, Any] = {
        "label": "a model",
        "created_at": "2026-01-02T03:04:05Z",
        "dim": 128,
        "width": 4,
        "depths": (1, 1, 1, 1),
        "opset": 11,
        "input": Tensor(name="input", dtype="float32", shape=("b", 3, 256, 128)),
        "output": Tensor(name="output", dtype="float32", shape=("b", 128)),
        "preprocessing": Preprocessing(),
        "checkpoint": Checkpoint(file="m.ckpt", sha256=SHA, weights_sha256=SHA),
        "variants": {"onnx-fp32": Variant(fingerprint="onnx-fp32-1", precision="fp32", runtime="onnxruntime")},
        "artefacts": (Artefact(file="model.onnx", sha256=SHA, size_bytes=5, variant="onnx-fp32"),),
        "golden": Artefact(file="golden.npz", sha256=SHA, size_bytes=7),
        "verification": {
            "onnx-fp32": Verification(
                crops=8, cosine_min=1.0, cosine_mean=1.0, largest_difference=1e-6, relative_difference=1e-7
            )
        },
        "tools": {"torch": "2.13.0"},
    }
    return ModelManifest(**{**facts, **changes})


def changed(**changes: Any) -> str:
    """The example's JSON with top-level keys replaced, or removed where None is given."""
    content = {**json.loads(example().to_json()), **changes}
    return json.dumps({key: value for key, value in content.items() if value is not None})


def test_a_manifest_comes_back_from_its_json_as_it_was() -> None:
    assert parse_manifest(example().to_json()) == example()


def test_the_json_is_indented_and_begins_with_the_schema_version() -> None:
    assert example().to_json().startswith('{\n  "schema_version": 1,\n  "label": "a model",')
    assert example().to_json().endswith("}\n")


def test_the_files_of_a_model_are_its_artefacts_and_the_golden_crops() -> None:
    assert [artefact.file for artefact in example().files()] == ["model.onnx", "golden.npz"]


def int8(cosine_mean: float) -> ModelManifest:
    """The example with a variant that has golden vectors of its own and agrees so far with fp32."""
    figures = Figures(mAP=0.5, rank1=0.5, interval95=Interval95(mAP=(0.4, 0.6), rank1=(0.4, 0.6)))
    agreement = Agreement(
        data="drawn people", queries=2, gallery=3, crops_sha256=SHA, cosine_min=0.9, cosine_mean=cosine_mean,
        same_nearest=1.0, fp32=figures, variant=figures, change=figures,
    )  # fmt: skip
    own = Artefact(file="golden_int8.npz", sha256=SHA, size_bytes=9)
    variant = Variant(
        fingerprint="onnx-int8-1", precision="int8", runtime="onnxruntime", agreement=agreement, golden=own
    )
    return example(variants={**example().variants, "onnx-int8": variant})


def test_a_variants_own_golden_vectors_are_a_file_of_the_model() -> None:
    assert [artefact.file for artefact in int8(0.99).files()] == ["model.onnx", "golden.npz", "golden_int8.npz"]
    assert parse_manifest(int8(0.99).to_json()) == int8(0.99)


@pytest.mark.parametrize(
    ("mean", "needed"),
    # A fourth of the way from 1, which is half the angle; never less than what is asked of every variant.
    [(0.998, 0.9995), (0.9992, 0.9998), (0.99, GOLDEN_COSINE)],
)
def test_golden_crops_may_turn_half_as_far_as_their_variant_is_from_fp32(mean: float, needed: float) -> None:
    assert int8(mean).golden_cosine("onnx-int8") == pytest.approx(needed)
    assert int8(mean).golden_cosine("onnx-fp32") == GOLDEN_COSINE


def test_a_variant_is_found_by_name_and_a_missing_one_is_told_which_there_are() -> None:
    assert example().variant("onnx-fp32").precision == "fp32"
    with pytest.raises(BadModelDirectory) as refusal:
        example().variant("om-fp16")
    assert str(refusal.value) == "the model directory has no variant 'om-fp16'; it has onnx-fp32"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (changed(surprise=1), "manifest.json: surprise: Extra inputs are not permitted"),
        (changed(dim=None), "manifest.json: dim: Field required"),
        (changed(dim=0), "manifest.json: dim: Input should be greater than or equal to 1"),
        (changed(schema_version=2), "manifest.json: schema_version: Input should be 1"),
        (changed(depths=[1, 1, 1]), "manifest.json: depths.3: Field required"),
        (changed(golden={"file": "g", "sha256": "short", "size_bytes": 1}), "manifest.json: golden.sha256: "),
    ],
    ids=["unknown key", "missing key", "no dim", "newer schema", "three depths", "bad hash"],
)
def test_a_wrong_manifest_is_refused_with_the_first_fault(text: str, sentence: str) -> None:
    with pytest.raises(BadModelDirectory) as refusal:
        parse_manifest(text)
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize("length", [0, 1, 40, 400, -3])
def test_a_half_written_manifest_is_refused(length: int) -> None:
    with pytest.raises(BadModelDirectory, match=r"^manifest\.json: the text: Invalid JSON"):
        parse_manifest(example().to_json()[:length])


@pytest.mark.parametrize("name", ["../secret", "a/b", "/etc/passwd", "", "a\nb", "model.onnx\n"])
def test_an_artefact_lies_in_the_directory_itself(name: str) -> None:
    golden = {"file": name, "sha256": SHA, "size_bytes": 1}
    with pytest.raises(BadModelDirectory, match=r"golden\.file"):
        parse_manifest(changed(golden=golden))


def test_a_fingerprint_names_its_variant_and_changes_with_everything_that_shapes_a_vector() -> None:
    first = fingerprint(SHA, Preprocessing(), "onnx-fp32")
    assert first == fingerprint(SHA, Preprocessing(), "onnx-fp32")
    assert first.startswith("onnx-fp32-")
    assert len(first) == len("onnx-fp32-") + 16
    others = {
        fingerprint(SHA[::-1], Preprocessing(), "onnx-fp32"),
        fingerprint(SHA, Preprocessing(mean=(0.5, 0.5, 0.5)), "onnx-fp32"),
        fingerprint(SHA, Preprocessing(height=320), "onnx-fp32"),
        fingerprint(SHA, Preprocessing(), "onnx-int8"),
        fingerprint(SHA, Preprocessing(), "onnx-int8", graph_sha256=SHA),
        fingerprint(SHA, Preprocessing(), "onnx-int8", graph_sha256=SHA[::-1]),
    }
    assert len(others | {first}) == 7


def test_a_fingerprint_stays_what_it_was_or_every_stored_collection_is_lost() -> None:
    # sha256 of {"preprocessing": {...}, "variant": "onnx-fp32", "weights": "..."} with sorted keys, computed once.
    assert fingerprint(SHA, Preprocessing(), "onnx-fp32") == "onnx-fp32-488d59d976d5fd8d"
