"""A model directory on disk: read, checked by hash, refused by name of what is wrong."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.core.manifest import GOLDEN_COSINE, MANIFEST_FILE, ONNX_FP32, Artefact, ModelManifest, parse_manifest
from app.core.preprocess import HEIGHT, WIDTH
from app.errors import BadModelDirectory


@dataclass(frozen=True, slots=True)
class Golden:
    """The drawn crops uint8 [n, 256, 128, 3] that every start embeds, the vectors [n, dim] that they must give, and how
    near. The vectors are fp32's, or a variant's own."""

    crops: npt.NDArray[np.uint8]
    vectors: npt.NDArray[np.float32]
    cosine: float = GOLDEN_COSINE


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A directory whose manifest was read and whose files were all there, whole, when it was opened."""

    path: Path
    manifest: ModelManifest

    @classmethod
    def open(cls, path: Path) -> "ModelDirectory":
        """Read and check everything. Raises BadModelDirectory with one sentence that names the file at fault."""
        try:
            text = (path / MANIFEST_FILE).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            if not path.is_dir():
                raise BadModelDirectory(f"{path} is no directory") from error
            raise BadModelDirectory(
                f"{path} has no {MANIFEST_FILE}: the export was not finished, or this is no model directory"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise BadModelDirectory(f"{path / MANIFEST_FILE} cannot be read: {error}") from error
        manifest = parse_manifest(text)
        for artefact in manifest.files():
            try:
                _check(path / artefact.file, artefact)
            except OSError as error:
                raise BadModelDirectory(f"{path / artefact.file} cannot be read: {error.strerror or error}") from error
        return cls(path, manifest)

    def artefact(self, variant: str, batch: int | None = None) -> Path:
        """The file of a variant for a fixed batch size, or with a dynamic batch; another variant's where it runs that."""
        described = self.manifest.variants.get(variant)
        owner = described.graph if described and described.graph else variant
        for artefact in self.manifest.artefacts:
            if artefact.variant == owner and artefact.batch == batch:
                return self.path / artefact.file
        kind = "a dynamic batch" if batch is None else f"batch size {batch}"
        raise BadModelDirectory(f"{self.path} has no {variant} artefact with {kind}")

    def golden(self, variant: str = ONNX_FP32) -> Golden:
        """The golden crops, with what a variant must make of them. Nothing is unpickled. Raises BadModelDirectory."""
        own = self.manifest.variant(variant).golden
        (crops, vectors) = self._arrays(self.manifest.golden.file, "crops", "vectors")
        if own is not None:
            (vectors,) = self._arrays(own.file, "vectors")
        kinds = (crops.dtype, crops.shape[1:], vectors.dtype, vectors.shape)
        if kinds != (np.uint8, (HEIGHT, WIDTH, 3), np.float32, (len(crops), self.manifest.dim)) or len(crops) == 0:
            raise BadModelDirectory(
                f"{self.path}: golden crops {crops.dtype} {crops.shape} and vectors {vectors.dtype} {vectors.shape} "
                "do not fit the model"
            )
        return Golden(crops, vectors, self.manifest.golden_cosine(variant))

    def _arrays(self, file: str, *names: str) -> list[Any]:
        try:
            # Opened here, since numpy leaves a file that is no zip open.
            with (self.path / file).open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                return [arrays[name] for name in names]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise BadModelDirectory(f"{self.path}: the golden crops cannot be read: {error}") from error


def _check(file: Path, artefact: Artefact) -> None:
    if not file.is_file():
        raise BadModelDirectory(f"{file} is missing")
    if file.stat().st_size != artefact.size_bytes:
        raise BadModelDirectory(f"{file} has {file.stat().st_size} bytes, the manifest says {artefact.size_bytes}")
    if sha256_of(file) != artefact.sha256:
        raise BadModelDirectory(f"{file} is damaged: its sha256 is not the manifest's")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
