"""The manifest of a model directory: what was built from what, and the fingerprint that keeps vectors of two models apart."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.core.preprocess import HEIGHT, MEAN, STD, WIDTH
from app.errors import BadModelDirectory

MANIFEST_FILE, GOLDEN_FILE = "manifest.json", "golden.npz"
ONNX_FP32, ONNX_INT8 = "onnx-fp32", "onnx-int8"
OPENVINO_BF16, OPENVINO_FP32 = "openvino-bf16", "openvino-fp32"
OM_FP16, OM_FP16_AIPP = "om-fp16", "om-fp16-aipp"
GOLDEN_COSINE = 0.999  # golden crops: a wrong resize, channel order or weight gives less; fp16 and bfloat16 give more
ONNXRUNTIME, OPENVINO, ACLRUNTIME = "onnxruntime", "openvino", "aclruntime"  # what a variant runs on


_SHA256 = r"^[0-9a-f]{64}$"


class _Fact(BaseModel):
    """Frozen, and closed: an unknown key is a mistake or a newer manifest, and either must be noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Compiled(_Fact):
    """How ATC made an OM, what the OM wants for input, and what it takes of a chip."""

    dtype: Literal["float32", "uint8"]
    layout: Literal["NCHW", "NHWC"]
    soc_version: str = Field(description="The only chip it runs on, such as Ascend310P3.")
    precision_mode: str
    cann_version: str | None = Field(description="Of the toolkit; None where neither the OM nor the toolkit tells.")
    gears: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Batch sizes of a dynamic-batch OM, ascending; else empty."
    )
    inputs_sha256: str = Field(pattern=_SHA256, description="Over graph, options, AIPP file and toolkit.")
    weight_bytes: int | None = Field(None, description="Device memory for weights, as the OM itself says.")
    work_bytes: int | None = Field(None, description="Device memory for intermediate results, likewise.")


class Artefact(_Fact):
    """A file of the directory. `batch` is the fixed batch size, None for a dynamic one."""

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    sha256: str = Field(pattern=_SHA256)
    size_bytes: int = Field(ge=1)
    variant: str | None = None
    batch: int | None = Field(None, ge=1)
    compiled: Compiled | None = None


class Tensor(_Fact):
    """A graph's input or output; `shape` holds "b" for a dynamic batch."""

    name: str
    dtype: Literal["float32"]
    shape: tuple[int | Literal["b"], ...]


class Preprocessing(_Fact):
    """How image bytes become the input tensor."""

    height: int = HEIGHT
    width: int = WIDTH
    colour: Literal["RGB"] = "RGB"
    layout: Literal["NCHW"] = "NCHW"
    resize: Literal["pillow-bilinear"] = "pillow-bilinear"
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


class Quantized(_Fact):
    """How a graph's numbers became eight bits. Of the crops that it took there are a count and a hash, and no names."""

    method: str = Field(description="How the range of a tensor was told from the crops: percentile or minmax.")
    percentile: float | None = Field(None, description="The share of values, in percent, that a range holds.")
    crops: int = Field(ge=1)
    crops_sha256: str = Field(pattern=_SHA256, description="Over the crops as the network sees them.")
    tool: str = Field(description="What did it, and its version.")


class Interval95(_Fact):
    """95 % of the means over queries drawn with replacement lie between these."""

    mAP: tuple[float, float]
    rank1: tuple[float, float]


class Figures(_Fact):
    """mAP and rank-1 as fractions, or their differences."""

    mAP: float
    rank1: float
    interval95: Interval95


class Agreement(_Fact):
    """A variant beside onnx-fp32 on the same labelled crops, by the protocol `instance`, measured when it was made."""

    data: str = Field(description="What the crops were: drawn people, or a labelled folder.")
    queries: int = Field(description="Those with a crop of their person that counts.")
    gallery: int
    crops_sha256: str = Field(pattern=_SHA256, description="Over all the crops as the network sees them.")
    cosine_min: float
    cosine_mean: float
    same_nearest: float = Field(description="Share of queries whose nearest crop of another camera is the same.")
    fp32: Figures
    variant: Figures
    change: Figures = Field(description="The variant's less fp32's, query by query.")


class Variant(_Fact):
    """One way the model is compiled; all its batch sizes share the fingerprint."""

    fingerprint: str
    precision: str
    runtime: str
    graph: str | None = Field(None, description="The variant whose files it runs, where it has none of its own.")
    quantized: Quantized | None = None
    agreement: Agreement | None = None
    golden: Artefact | None = Field(
        None, description="Its own vectors of the golden crops; None: fp32's are asked of it."
    )


class Checkpoint(_Fact):
    """Where the weights come from. The two flags are the training configuration's, None where it does not say."""

    file: str
    sha256: str
    weights_sha256: str
    use_centroids: bool | None = None
    keep_camid_centroids: bool | None = None
    label: str | None = None


class Verification(_Fact):
    """A variant's agreement with torch on the golden crops."""

    crops: int
    cosine_min: float
    cosine_mean: float
    largest_difference: float
    relative_difference: float


class ModelManifest(_Fact):
    """Everything a server must know before it loads a model."""

    schema_version: Literal[1] = 1
    label: str
    created_at: str
    dim: int = Field(ge=1)
    width: int
    depths: tuple[int, int, int, int]
    opset: int
    input: Tensor
    output: Tensor
    preprocessing: Preprocessing
    checkpoint: Checkpoint
    variants: dict[str, Variant]
    artefacts: tuple[Artefact, ...]
    golden: Artefact
    verification: dict[str, Verification]
    tools: dict[str, str]

    def to_json(self) -> str:
        """Indented text, keys in the order above."""
        return self.model_dump_json(indent=2) + "\n"

    def files(self) -> tuple[Artefact, ...]:
        """Every file that the directory must hold."""
        own = (variant.golden for variant in self.variants.values() if variant.golden is not None)
        return (*self.artefacts, self.golden, *own)

    def variant(self, name: str) -> Variant:
        """The variant of that name. Raises BadModelDirectory."""
        if name not in self.variants:
            raise BadModelDirectory(f"the model directory has no variant {name!r}; it has {', '.join(self.variants)}")
        return self.variants[name]

    def golden_cosine(self, name: str) -> float:
        """What the golden crops must reach with a variant at every start. Raises BadModelDirectory.

        One that lies further from fp32 has vectors of its own to be compared with. From those it may turn half as far as
        it lies from fp32 (a cosine is 1 - angle ** 2 / 2), for beyond that its agreement does not hold on that machine.
        """
        variant = self.variant(name)
        if variant.golden is None or variant.agreement is None:
            return GOLDEN_COSINE
        return max(GOLDEN_COSINE, 1 - (1 - variant.agreement.cosine_mean) / 4)


def parse_manifest(text: str) -> ModelManifest:
    """Read a manifest. Raises BadModelDirectory with the first thing that is wrong in it."""
    try:
        return ModelManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the text"
        raise BadModelDirectory(f"{MANIFEST_FILE}: {where}: {first['msg']}") from error


def fingerprint(
    weights_sha256: str, preprocessing: Preprocessing, variant: str, graph_sha256: str | None = None
) -> str:
    """Name of an embedding space, such as `onnx-fp32-3f9a61c2b07d4e85`: the same for all batch sizes of a variant.

    graph_sha256: of a graph that the weights alone do not tell, since other calibration crops would have made another.
    """
    facts: Mapping[str, Any] = {
        "weights": weights_sha256,
        "preprocessing": preprocessing.model_dump(mode="json"),
        "variant": variant,
    }
    if graph_sha256 is not None:
        facts = {**facts, "graph": graph_sha256}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{variant}-{digest[:16]}"
