"""The `aclruntime` stand-in behaves as the public source of the binding does: names, types, sizes, tensors, precision."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.standins import tiny
from tests.standins.conftest import Acl, Array

Load = Callable[..., Acl]
Process = Callable[..., subprocess.CompletedProcess[str]]
GENERAL = re.escape("[-1][ACL: general failure] ")
INVALID = re.escape("[1][ACL: invalid parameter] ")


def cosines(some: Array, others: Array) -> Array:
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    result: Array = (some * others).sum(axis=1) / lengths
    return result


def on_the_cpu(om: Path, crops: Array) -> Array:
    session = ort.InferenceSession(om.with_name("tiny.onnx"), providers=["CPUExecutionProvider"])
    (vectors,) = session.run(None, {"input": crops})
    return np.asarray(vectors)


# --- names and types


def test_a_session_says_what_it_wants_and_gives(load: Load, om_4: Path) -> None:
    session = load().open(om_4)
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, int(given.datatype), given.format, given.shape) == ("input", 0, 0, [4, 3, 8, 4])
    assert (given.size, given.realsize) == (4 * 3 * 8 * 4 * 4, 4 * 3 * 8 * 4 * 4)
    assert (made.name, int(made.datatype), made.format, made.shape, made.size) == (
        "Flatten_2:0:output",
        0,
        2,
        [4, 8],
        128,
    )


def test_aipp_wants_bytes(load: Load, om_4_aipp: Path) -> None:
    (given,) = load().open(om_4_aipp).get_inputs()
    assert (int(given.datatype), given.format, given.shape, given.size) == (4, 1, [4, 8, 4, 3], 4 * 3 * 8 * 4)


def test_the_module_has_the_bindings_names(load: Load) -> None:
    module = load().module
    names = "session_options InferenceSession BaseTensor Tensor tensor_desc sumary dtype type MemorySummary batch model"
    for name in [*names.split(), "float32", "uint8", "bool", "memory_host", "memory_device", "memory_dvpp"]:
        assert hasattr(module, name), name
    assert not hasattr(module, "__version__")
    options = module.session_options()
    assert (options.loop, options.log_level, options.acl_json_path) == (1, 2, "")
    assert module.dtype.float32 != 0


def test_arguments_are_positional_and_of_the_right_type(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    options = acl.module.session_options()
    session, feeds = acl.open(om_4), acl.feed(crops)
    wrong: list[Callable[[], Any]] = [
        lambda: acl.module.InferenceSession(str(om_4), 0),
        lambda: acl.module.InferenceSession(str(om_4), device=0, options=options),
        lambda: acl.module.InferenceSession(om_4, 0, options),
        lambda: acl.module.InferenceSession(str(om_4), 0.0, options),
        lambda: acl.module.BaseTensor(1),
        lambda: session.run(names=["x"], feeds=feeds),
        lambda: session.run("x", feeds),
        lambda: session.run(["x"], [crops]),
        lambda: session.run(["x"], feeds[0]),
        lambda: session.set_dynamic_batchsize("4"),
        lambda: session.set_dynamic_batchsize(4.0),
    ]
    for call in wrong:
        with pytest.raises(TypeError, match="incompatible"):
            call()
    assert acl.counters["leaked_bytes"] == 0


def test_the_generations_are_told_apart_by_free_resource(load: Load) -> None:
    new = load(generation="new").module.InferenceSession
    assert hasattr(new, "free_resource")
    assert new.finalize() == 0  # static
    old = load(generation="old").module.InferenceSession
    assert not hasattr(old, "free_resource")
    with pytest.raises(TypeError):
        old.finalize()  # a method of a session


# --- sizes and bytes


def test_only_the_count_of_bytes_is_looked_at(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    right = acl.vectors(session, crops)
    as_bytes = np.frombuffer(np.random.default_rng(1).bytes(crops.nbytes), np.uint8)
    assert acl.vectors(session, as_bytes).shape == (4, 8)
    turned = np.asfortranarray(crops)  # equal values in another order, which nobody looks at
    assert not np.allclose(acl.vectors(session, turned), right)


def test_bytes_are_read_when_run_is_called(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    other = np.array(crops[::-1])
    feeds, expected = acl.feed(crops), acl.vectors(session, other)
    crops[:] = other
    (tensor,) = session.run([session.get_outputs()[0].name], feeds)
    tensor.to_host()
    assert np.array_equal(np.array(tensor), expected)


def test_a_static_batch_takes_no_other_and_leaks_what_it_refused(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        acl.outputs(session, np.array(crops[:3]))
    assert acl.counters["leaked_bytes"] == crops[:3].nbytes


def test_names_are_the_compiled_ones(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        session.run(["output"], acl.feed(crops))
    assert session.run([], acl.feed(crops)) == []
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        session.run(["Flatten_2:0:output"], [])


# --- gears


def test_descs_are_live_and_follow_the_gear(load: Load, om_gears: Path) -> None:
    session = load().open(om_gears)
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.shape, made.shape) == ([-1, 3, 8, 4], [-1, 8])
    assert given.realsize == given.size
    session.set_dynamic_batchsize(np.int64(1))
    assert (given.size, given.realsize, made.realsize) == (1536, 384, 32)  # 384 bytes a crop, four crops at most
    session.set_staticbatch()
    assert given.realsize == 384  # not restored
    assert session.get_max_dym_batchsize() == 4


def test_each_gear_runs_and_gives_its_own_rows(load: Load, om_gears: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_gears)
    for gear in (1, 2, 4):
        session.set_dynamic_batchsize(gear)
        assert acl.vectors(session, np.array(crops[:gear])).shape == (gear, 8)


def test_a_gear_that_was_not_compiled_is_refused_aloud(
    load: Load, om_gears: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = load().open(om_gears)
    with pytest.raises(RuntimeError, match=f"^{INVALID}$"):
        session.set_dynamic_batchsize(3)
    shown = capfd.readouterr().out
    assert "the dymBatch parameter is not correct" in shown
    assert "1 2 4" in shown


def test_a_static_om_has_no_gears(load: Load, om_4: Path) -> None:
    with pytest.raises(RuntimeError, match=f"^{INVALID}$"):
        load().open(om_4).set_dynamic_batchsize(4)


def test_a_dynamic_om_does_not_run_before_its_gear_is_set(load: Load, om_gears: Path, crops: Array) -> None:
    acl = load()
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        acl.outputs(acl.open(om_gears), crops)


# --- tensors


def test_an_output_on_the_device_is_no_array(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    (tensor,) = acl.outputs(acl.open(om_4), crops)
    assert (tensor.device, tensor.type) == (0, acl.module.type.memory_device)
    undelivered = np.array(tensor)
    assert (undelivered.shape, undelivered.dtype) == ((), np.dtype(object))
    tensor.to_host()
    assert (tensor.type, tensor.shape, tensor.dtype) == (acl.module.memory_host, [4, 8], acl.module.float32)
    assert np.array(tensor).shape == (4, 8)


def test_an_output_on_the_device_may_end_the_process(process: Process, om_4: Path) -> None:
    ended = process("np.array(run(session(sys.argv[1]), crops)[0])", om_4, undelivered="abort")
    assert ended.returncode == -6  # SIGABRT
    assert "tensor is in npu" in ended.stderr


def test_a_tensor_copies_bytes_without_regard_to_strides(load: Load, om_4: Path) -> None:
    acl = load()
    acl.open(om_4)
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array(acl.module.Tensor(table)).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.array(acl.module.Tensor(table.T)).tolist() == [[0, 1], [2, 3], [4, 5]]  # and not [[0, 3], ...


def test_a_tensor_on_the_device_runs_like_its_bytes(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    tensor = acl.module.Tensor(crops)
    tensor.to_device(0)
    expected = acl.vectors(session, crops)
    for feeds in ([tensor], {"input": tensor}):
        (made,) = session.run([session.get_outputs()[0].name], feeds)
        made.to_host()
        assert np.array_equal(np.array(made), expected)
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        session.run([session.get_outputs()[0].name], {"image": tensor})
    with pytest.raises(RuntimeError, match=re.escape("[1004][Invalid parameter] ")):
        tensor.to_device(2)
    with pytest.raises(RuntimeError, match=f"^{INVALID}$"):
        tensor.to_device(1)  # no session there


def test_a_host_tensor_is_the_devices_fault_and_the_end_of_the_session(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        session.run([session.get_outputs()[0].name], [acl.module.Tensor(crops)])
    with pytest.raises(RuntimeError, match=f"^{GENERAL}$"):
        acl.outputs(session, crops)


# --- precision


def test_float_input_is_the_cpus_answer_but_for_fp16(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    vectors, exact = acl.vectors(acl.open(om_4), crops), on_the_cpu(om_4, crops)
    assert not np.allclose(vectors, exact, rtol=1e-4)
    assert cosines(vectors, exact).min() > 0.9999
    assert np.array_equal(vectors, vectors.astype(np.float16).astype(np.float32))


def test_aipp_input_is_normalised_on_the_device(load: Load, om_4_aipp: Path) -> None:
    acl = load()
    images = np.random.default_rng(3).integers(0, 256, (4, 8, 4, 3), dtype=np.uint8)
    floats = ((images / 255 - np.array(tiny.MEAN)) / np.array(tiny.STD)).astype(np.float32).transpose(0, 3, 1, 2)
    exact = on_the_cpu(om_4_aipp, np.ascontiguousarray(floats))
    assert cosines(acl.vectors(acl.open(om_4_aipp), images), exact).min() > 0.9999


def test_the_same_input_gives_the_same_vectors(load: Load, om_4: Path, crops: Array) -> None:
    acl = load()
    session = acl.open(om_4)
    assert np.array_equal(acl.vectors(session, crops), acl.vectors(session, crops))


def test_vectors_can_be_made_up_where_only_time_matters(load: Load, om_4: Path, crops: Array) -> None:
    acl = load(compute="made-up")
    vectors = acl.vectors(acl.open(om_4), crops)
    assert vectors.shape == (4, 8)
    assert len({tuple(row) for row in vectors.tolist()}) == 4
