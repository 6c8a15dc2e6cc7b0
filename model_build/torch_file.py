"""Read a file that torch.save wrote, without running what is in it.

    with TorchFile.open(path) as file:
        stored = file.content["state_dict"]["bn.weight"]      # a StoredTensor: name of its bytes, dtype, shape
        weight = file.tensor(stored)                          # now a torch.Tensor

A checkpoint is a zip of one pickle and one entry of raw bytes per storage. A pickle is a program, and checkpoints come
from links without a checksum, so nothing a pickle names is imported: the few names that build a tensor become values of
this module, and **every other name becomes an inert dict** that accepts whatever is done to it. This is preferred to
`torch.load(weights_only=True)`, which must be told every foreign class by name (yacs, Lightning) and so refuses the
next trainer's file; and tensors nobody asks for (the optimiser's may be two thirds of a file) are never read.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from app.errors import BadCheckpoint

MAX_PICKLE_BYTES = 64 * 2**20  # the published file's is a few hundred kB
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# First bytes of what people pass by mistake, and what to tell them.
SIGNATURES = (
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "was written by torch before 1.6 (no zip); load it with "
     "torch.load(..., weights_only=True) in a newer torch and save it again"),
    (b"\x89HDF", "is an HDF5 file (Keras?), no torch checkpoint"),
    (b"\x1f\x8b", "is a gzip archive; unpack it first"),
    (b"\x80", "is a bare pickle, no torch checkpoint"),
    (b"PK", "begins like a torch checkpoint and has no end: the download or copy is incomplete"),
    (b"version https://git-lfs", "is a git-lfs pointer, not the file itself; run git lfs pull"),
    (b"<", "is a web page or XML: the download link led to a page, not to the file"),
)  # fmt: skip


@dataclass(frozen=True)  # not slots: Python 3.11.2 then puts a __setstate__ of its own in the place of ours
class StoredTensor:
    """A tensor as the pickle describes it: plain numbers, which `TorchFile.tensor` holds against its bytes."""

    storage: "_Storage"
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: object) -> None:
        """Closed, for a pickle could change the checked numbers through it."""
        raise pickle.UnpicklingError("state for a tensor")

    @property
    def kind(self) -> str:
        """The torch dtype's name, or "unknown"."""
        return str(DTYPES.get(self.storage.kind, "unknown")).removeprefix("torch.")


@dataclass(frozen=True, slots=True)
class TorchFile:
    """An open checkpoint: its plain content, and tensors on demand."""

    name: str
    content: Any
    archive: zipfile.ZipFile
    folder: str

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["TorchFile"]:
        """Open and unpickle. Raises BadCheckpoint with one sentence about what the file is or what is wrong with it."""
        with _open_zip(path) as archive:
            folder = _folder(path.name, archive)
            data = _read(path.name, archive, folder + "data.pkl", MAX_PICKLE_BYTES)
            yield cls(path.name, _unpickle(path.name, data), archive, folder)

    def tensor(self, stored: StoredTensor) -> torch.Tensor:
        """Read one tensor. Raises BadCheckpoint if its bytes are missing, damaged, or not as many as it claims."""
        if stored.storage.kind not in DTYPES:
            raise BadCheckpoint(f"{self.name}: a tensor of {_short(stored.storage.kind)}, which is not read here")
        dtype = DTYPES[stored.storage.kind]
        data = _read(self.name, self.archive, f"{self.folder}data/{stored.storage.key}")
        values = len(data) // dtype.itemsize
        if not _fits(stored, values):
            raise BadCheckpoint(f"{self.name}: a tensor of shape {stored.shape} claims more than its {len(data)} bytes")
        if prod(stored.shape) == 0:
            return torch.empty(stored.shape, dtype=dtype)
        flat = torch.frombuffer(bytearray(data), dtype=dtype, count=values)
        return flat.as_strided(stored.shape, stored.stride, stored.offset).contiguous()


@dataclass(frozen=True)  # not slots, as above
class _Storage:
    kind: str
    key: str

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("state for a storage")


class _Inert(dict[Any, Any]):
    """Stands for every class and function that is not known. Whatever is done to it, it keeps dict items only."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Forget it: state may hold anything, and nothing here needs it."""

    def _ignore(self, *_: object) -> None:
        pass

    append = extend = add = _ignore

    def __hash__(self) -> int:  # type: ignore[override]  # dict has none; an unknown object may be a key or in a set
        return id(self)


class _Rebuild:
    """What a pickle calls to make a tensor. Slots and a closed __setstate__: a pickle can change nothing about it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: object) -> StoredTensor:
        if not (isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(stride, tuple)):
            raise pickle.UnpicklingError("a tensor of no storage or no shape")
        plain = all(type(number) is int and number >= 0 for number in (offset, *shape, *stride))
        if not plain or len(shape) != len(stride) or len(shape) > 8:
            raise pickle.UnpicklingError("a tensor with an impossible shape")
        return StoredTensor(storage, offset, shape, stride)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("state for a function")


class _Parameter(_Rebuild):
    __slots__ = ()

    def __call__(self, stored: Any, *_: object) -> Any:
        return stored


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Parameter()
        if module == "torch" and name.endswith("Storage"):
            return name  # a str, which persistent_load looks up
        return _Inert

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, *_ = pid
        if tag != "storage" or not isinstance(kind, str) or not isinstance(key, str):
            raise pickle.UnpicklingError("a persistent id that is no storage")
        return _Storage(kind, key)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged directory of the zip raises errors of many kinds
        raise BadCheckpoint(f"{path.name} {_guess(path)}") from error


def _unpickle(name: str, data: bytes) -> Any:
    try:
        _scan(data)
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # a broken pickle can raise anything at all
        raise BadCheckpoint(f"{name}: its data.pkl is damaged or no checkpoint's ({_short(error)})") from error


def _scan(data: bytes) -> None:
    """Walk the opcodes first: lengths beyond the end are found, and a memo index cannot ask for gigabytes of table."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name.startswith("EXT"):
            raise pickle.UnpicklingError("it uses the extension registry")
        if opcode.name.endswith("PUT") and isinstance(argument, int) and argument > len(data):
            raise pickle.UnpicklingError("memo index beyond the file's length")


def _folder(name: str, archive: zipfile.ZipFile) -> str:
    """The folder inside the zip that holds data.pkl (`archive/`, or the file's first name)."""
    names = archive.namelist()
    found = [entry for entry in names if entry.count("/") == 1 and entry.endswith("/data.pkl")]
    if len(found) != 1:
        held = _short(", ".join(names[:5]) or "nothing")
        raise BadCheckpoint(f"{name} is a zip archive without a torch checkpoint in it; it holds {held}")
    folder = found[0].removesuffix("data.pkl")
    if folder + "constants.pkl" in names:
        raise BadCheckpoint(f"{name} is a TorchScript program; the training checkpoint (a state dict) is needed")
    if folder + "byteorder" in names and _read(name, archive, folder + "byteorder", 16) != b"little":
        raise BadCheckpoint(f"{name} was written on a big-endian machine, which is not read here")
    return folder


def _read(name: str, archive: zipfile.ZipFile, entry: str, limit: int | None = None) -> bytes:
    try:
        info = archive.getinfo(entry)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:  # torch stores; else 1 kB may unpack to 1 GB
            raise BadCheckpoint(f"{name}: {_short(entry)} is compressed or encrypted, which torch.save never does")
        if limit is not None and info.file_size > limit:
            raise BadCheckpoint(f"{name}: {_short(entry)} has {info.file_size} bytes, at most {limit} are read")
        return archive.read(info)
    except KeyError as error:
        raise BadCheckpoint(f"{name}: {_short(entry)} is missing from the archive") from error
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise BadCheckpoint(f"{name} is damaged at {_short(entry)}; fetch it again") from error


def _fits(stored: StoredTensor, values: int) -> bool:
    """Whether the tensor stays inside its `values`, and does not blow a small storage up by strides of zero."""
    if prod(stored.shape) > values:
        return False
    last = stored.offset + sum((n - 1) * step for n, step in zip(stored.shape, stored.stride, strict=True))
    return prod(stored.shape) == 0 or last < values


def _guess(path: Path) -> str:
    """What a file that is no zip looks like."""
    with path.open("rb") as file:
        head = file.read(4096)
    sentences = [
        (not head, "is empty"),
        *((head.lstrip().startswith(signature), sentence) for signature, sentence in SIGNATURES),
        (head[:1] == b"\x08" and b"\x12" in head[:4], "looks like an ONNX graph; the training checkpoint is needed"),
        (head[8:10] == b'{"', "is a safetensors file; a torch checkpoint (.ckpt, .pth) is needed"),
        (all(byte in b"\t\n\r" or byte >= 32 for byte in head), "is a text file, no torch checkpoint"),
    ]
    return next((sentence for holds, sentence in sentences if holds), "is no torch checkpoint (no zip archive)")


def _short(thing: object) -> str:
    """Text out of the file, made fit for a sentence."""
    text = "".join(c if c.isprintable() else "?" for c in str(thing))
    return text if len(text) <= 120 else text[:117] + "..."
