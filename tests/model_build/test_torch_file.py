"""Nothing in a checkpoint is run, whatever it is and wherever in the file it stands."""

import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.errors import BadCheckpoint
from model_build.checkpoint import Weights, hash_weights, read_checkpoint
from model_build.made_up import lightning_shaped
from model_build.torch_file import StoredTensor, TorchFile

Read = Callable[[Any], Weights]


class Bomb:
    """Unpickled by an ordinary unpickler it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def plain(value: object) -> Iterator[object]:
    """Every leaf of a nest of plain containers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from plain(key)
            yield from plain(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from plain(inner)
    else:
        yield value


def leaves(path: Path) -> list[object]:
    with TorchFile.open(path) as file:
        return list(plain(file.content))


def zipped(path: Path, data: bytes, **entries: bytes) -> Path:
    """A checkpoint of a hand-written pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in entries.items():
            archive.writestr(f"archive/data/{name.removeprefix('_')}", content)
    return path


def test_the_payload_of_these_tests_does_run_in_an_ordinary_unpickler(marker: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.is_dir()


def test_a_payload_in_the_hyper_parameters_does_not_run_and_the_weights_are_read(
    marker: Path, tiny_state: dict[str, Tensor], read: Read
) -> None:
    content = lightning_shaped(tiny_state)
    content["hyper_parameters"]["MODEL"]["NAME"] = Bomb(marker)
    content["hyper_parameters"]["label"] = Bomb(marker)
    content["callbacks"] = {Bomb: Bomb(marker), "nested": [(Bomb(marker), {"deep": Bomb(marker)})]}
    weights = read(content)
    assert not marker.exists()
    assert weights.weights_sha256 == hash_weights(tiny_state)
    assert weights.label is None


def test_a_payload_at_the_top_does_not_run(marker: Path, read: Read) -> None:
    with pytest.raises(BadCheckpoint, match="holds no state_dict"):
        read(Bomb(marker))
    assert not marker.exists()


def test_a_payload_in_the_state_dict_does_not_run_and_is_named(
    marker: Path, tiny_state: dict[str, Any], read: Read
) -> None:
    tiny_state["bn.weight"] = Bomb(marker)
    with pytest.raises(BadCheckpoint) as refusal:
        read({"state_dict": tiny_state})
    assert str(refusal.value) == "given.ckpt: entries of the state dict that are no tensors: bn.weight"
    assert not marker.exists()


def test_a_payload_as_a_key_or_in_a_set_does_not_run(marker: Path, tiny_state: dict[str, Tensor], read: Read) -> None:
    read({"state_dict": tiny_state, Bomb(marker): 1, "odd": {Bomb(marker)}})
    assert not marker.exists()


def test_a_payload_in_a_persistent_id_does_not_run(marker: Path, tmp_path: Path) -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: object) -> object:
            return ("storage", Bomb(marker), "0", "cpu", 4) if thing is Ellipsis else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"state_dict": {"bn.weight": ...}})
    with pytest.raises(BadCheckpoint, match="persistent id that is no storage"):
        read_checkpoint(zipped(tmp_path / "given.ckpt", buffer.getvalue()))
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nmkdir\n(V{marker}\ntR.",  # GLOBAL, REDUCE
        b"(V{marker}\nios\nmkdir\n.",  # INST
        b"(cos\nmkdir\nV{marker}\no.",  # OBJ
        b"\x80\x02cos\nmkdir\n(V{marker}\nt\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93(V{marker}\ntR.",  # STACK_GLOBAL
        b"cbuiltins\neval\n(V__import__('os').mkdir('{marker}')\ntR.",
        b"cbuiltins\ngetattr\n(cos\nmkdir\nV__call__\ntR(V{marker}\ntR.",
    ],
    ids=["reduce", "inst", "obj", "newobj", "stack-global", "eval", "getattr"],
)
def test_hand_written_programs_do_nothing(program: bytes, marker: Path, tmp_path: Path) -> None:
    data = program.replace(b"{marker}", str(marker).encode())
    with pytest.raises(BadCheckpoint):
        read_checkpoint(zipped(tmp_path / "given.ckpt", data))
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}V__call__\nI1\nsb.",  # state for the function that makes tensors
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}V__call__\nI1\nstb.",  # as slots
        b"cany.thing\nThing\n(N}Vappend\nI1\nstb.",  # an unknown class itself
        b"ctorch\nFloatStorage\n}Vkey\nI1\nsb.",
    ],
)
def test_a_pickle_cannot_change_the_reader(program: bytes, tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    with pytest.raises(BadCheckpoint, match="damaged or no checkpoint"):
        read_checkpoint(zipped(tmp_path / "given.ckpt", program))
    torch.save(tiny_state, tmp_path / "sound.ckpt")
    assert read_checkpoint(tmp_path / "sound.ckpt").weights_sha256 == hash_weights(tiny_state)


def test_only_plain_values_tensor_descriptions_and_stand_ins_come_out(marker: Path, tmp_path: Path) -> None:
    torch.save(
        {"a": torch.ones(2), "b": [Bomb(marker), 1.5, "x", None, {True}], "c": os.getcwd, Bomb: 1}, tmp_path / "f"
    )
    found = leaves(tmp_path / "f")
    stand_ins = [leaf for leaf in found if isinstance(leaf, type)]
    assert {(leaf.__module__, leaf.__name__) for leaf in stand_ins} == {("model_build.torch_file", "_Inert")}
    others = {type(leaf) for leaf in found if not isinstance(leaf, type)}
    assert others == {StoredTensor, str, float, int, type(None)}


def test_state_given_to_a_tensor_is_refused(tmp_path: Path) -> None:
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\ntQI0\n(I4\nt(I1\nttR"
    with TorchFile.open(zipped(tmp_path / "sound", tensor + b".", _0=bytes(16))) as file:
        assert torch.equal(file.tensor(file.content), torch.zeros(4))
    with pytest.raises(BadCheckpoint, match="state for a tensor"):
        read_checkpoint(zipped(tmp_path / "given.ckpt", tensor + b"(I1\nI2\ntb.", _0=bytes(16)))


def test_state_given_to_a_storage_is_refused(tmp_path: Path) -> None:
    storage = b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\ntQ"
    with pytest.raises(BadCheckpoint, match="state for a storage"):
        read_checkpoint(zipped(tmp_path / "given.ckpt", storage + b"(Vx\nVy\ntb.", _0=bytes(16)))


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [(b"I1\n", b"(I4\nt", b"(I1\nt"), (b"I0\n", b"(I4\nt", b"(I2\nt"), (b"I0\n", b"(I99999999\nt", b"(I0\nt")],
    ids=["offset", "stride", "blown up"],
)
def test_a_tensor_that_claims_more_than_its_bytes_is_refused(
    offset: bytes, shape: bytes, stride: bytes, tmp_path: Path
) -> None:
    call = b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\ntQ"
    path = zipped(tmp_path / "given.ckpt", call + offset + shape + stride + b"tR.", _0=bytes(16))
    with TorchFile.open(path) as file, pytest.raises(BadCheckpoint, match="claims more than its 16 bytes"):
        file.tensor(file.content)


def test_transposed_and_shared_tensors_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32)
    content = {
        "t": base.reshape(4, 6).T,
        "s": base[3:9],
        "c": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    content |= {"scalar": torch.tensor(7), "none": torch.empty(0, 3), "half": base.to(torch.bfloat16)}
    torch.save(content, tmp_path / "f")
    with TorchFile.open(tmp_path / "f") as file:
        for name, tensor in content.items():
            assert torch.equal(file.tensor(file.content[name]), tensor), name


@pytest.mark.parametrize("index", [2**31 - 1, 2**32 - 1])
def test_a_memo_index_cannot_ask_for_gigabytes(index: int, tmp_path: Path) -> None:
    data = b"\x80\x02N" + b"r" + index.to_bytes(4, "little") + b"."
    with pytest.raises(BadCheckpoint, match="memo index"):
        read_checkpoint(zipped(tmp_path / "given.ckpt", data))


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "given.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N." + bytes(10**7))
    with pytest.raises(BadCheckpoint, match=r"archive/data\.pkl is compressed"):
        read_checkpoint(tmp_path / "given.ckpt")


def test_every_truncation_is_one_sentence(tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    torch.save(lightning_shaped(tiny_state), tmp_path / "whole.ckpt")
    whole = (tmp_path / "whole.ckpt").read_bytes()
    for length in (
        1,
        2,
        4,
        30,
        100,
        1000,
        len(whole) // 3,
        len(whole) // 2,
        len(whole) - 100,
        len(whole) - 22,
        len(whole) - 1,
    ):
        (tmp_path / "given.ckpt").write_bytes(whole[:length])
        with pytest.raises(BadCheckpoint) as refusal:
            read_checkpoint(tmp_path / "given.ckpt")
        assert "\n" not in str(refusal.value)
        assert str(refusal.value).startswith("given.ckpt ")


def test_a_flipped_byte_never_changes_a_weight_unnoticed(tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    torch.save(lightning_shaped(tiny_state), tmp_path / "whole.ckpt")
    whole, wanted = (tmp_path / "whole.ckpt").read_bytes(), hash_weights(tiny_state)
    refused = 0
    for position in range(7, len(whole), len(whole) // 60):
        (tmp_path / "given.ckpt").write_bytes(
            whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]
        )
        try:
            assert read_checkpoint(tmp_path / "given.ckpt").weights_sha256 == wanted
        except BadCheckpoint:
            refused += 1
    assert refused > 10


def onnx_bytes() -> bytes:
    import onnx

    graph = onnx.helper.make_graph([], "g", [], [])
    return bytes(onnx.helper.make_model(graph, producer_name="x").SerializeToString())


def legacy_bytes() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(1)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"hello, world\n", "is a text file"),
        (b"<!DOCTYPE html><title>Sign in</title>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a git-lfs pointer"),
        (onnx_bytes(), "looks like an ONNX graph"),
        (legacy_bytes(), "was written by torch before 1.6"),
        (pickle.dumps({"state_dict": {}}), "is a bare pickle"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{"dtype"}}', "is a safetensors file"),
        (b"\x1f\x8b\x08\x00", "is a gzip archive"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"\x00\x01\x02\x03", "is no torch checkpoint"),
    ],
    ids=["empty", "text", "html", "lfs", "onnx", "legacy", "pickle", "safetensors", "gzip", "hdf5", "noise"],
)
def test_a_foreign_file_is_told_what_it_is(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "given.ckpt").write_bytes(content)
    with pytest.raises(BadCheckpoint) as refusal:
        read_checkpoint(tmp_path / "given.ckpt")
    assert str(refusal.value).startswith(f"given.ckpt {sentence}")


def test_a_zip_of_something_else_is_told_what_it_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "given.ckpt", "w") as archive:
        archive.writestr("photo.jpg", b"x")
    with pytest.raises(BadCheckpoint) as refusal:
        read_checkpoint(tmp_path / "given.ckpt")
    assert str(refusal.value) == "given.ckpt is a zip archive without a torch checkpoint in it; it holds photo.jpg"


def test_a_torchscript_program_is_told_what_it_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "given.ckpt", "w") as archive:
        archive.writestr("model/data.pkl", b"N.")
        archive.writestr("model/constants.pkl", b"N.")
    with pytest.raises(BadCheckpoint, match="is a TorchScript program"):
        read_checkpoint(tmp_path / "given.ckpt")


def test_a_missing_file_and_a_folder_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"nowhere\.ckpt cannot be read: No such file or directory"):
        read_checkpoint(tmp_path / "nowhere.ckpt")
    with pytest.raises(BadCheckpoint, match="cannot be read: Is a directory"):
        read_checkpoint(tmp_path)


def test_neither_yacs_nor_lightning_is_installed_or_imported() -> None:
    assert not {"yacs", "pytorch_lightning", "lightning"} & set(sys.modules)
