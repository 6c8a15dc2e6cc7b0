"""The manifest of a model directory: what was built from what, and the fingerprint that keeps vectors of two models apart."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.core.preprocess import HEIGHT, MEAN, STD, WIDTH
from app.errors import BadModelDirectory

MANIFEST_FILE, GOLDEN_FILE = "manifest.json", "golden.npz"
ONNX_FP32 = "onnx-fp32"
OM_FP16, OM_FP16_AIPP = "om-fp16", "om-fp16-aipp"
GOLDEN_COSINE = 0.999  # golden crops: a wrong resize, channel order or weight gives less; fp16 and int8 give more
ONNXRUNTIME, ACLRUNTIME = "onnxruntime", "aclruntime"  # what a variant runs on


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
    inputs_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Over graph, options, AIPP file and toolkit.")
    weight_bytes: int | None = Field(None, description="Device memory for weights, as the OM itself says.")
    work_bytes: int | None = Field(None, description="Device memory for intermediate results, likewise.")


class Artefact(_Fact):
    """A file of the directory. `batch` is the fixed batch size, None for a dynamic one."""

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
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


class Variant(_Fact):
    """One way the model is compiled; all its batch sizes share the fingerprint."""

    fingerprint: str
    precision: str
    runtime: str


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
        return (*self.artefacts, self.golden)

    def variant(self, name: str) -> Variant:
        """The variant of that name. Raises BadModelDirectory."""
        if name not in self.variants:
            raise BadModelDirectory(f"the model directory has no variant {name!r}; it has {', '.join(self.variants)}")
        return self.variants[name]


def parse_manifest(text: str) -> ModelManifest:
    """Read a manifest. Raises BadModelDirectory with the first thing that is wrong in it."""
    try:
        return ModelManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the text"
        raise BadModelDirectory(f"{MANIFEST_FILE}: {where}: {first['msg']}") from error


def fingerprint(weights_sha256: str, preprocessing: Preprocessing, variant: str) -> str:
    """Name of an embedding space, such as `onnx-fp32-3f9a61c2b07d4e85`: the same for all batch sizes of a variant."""
    facts: Mapping[str, Any] = {
        "weights": weights_sha256,
        "preprocessing": preprocessing.model_dump(mode="json"),
        "variant": variant,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{variant}-{digest[:16]}"
