"""What `atc` must know of an ONNX file, read from its bytes with the standard library alone.

The field numbers are those of onnx.proto3 (ModelProto, GraphProto, NodeProto, ValueInfoProto, TypeProto,
TensorShapeProto, TensorProto, OperatorSetIdProto). Big tensors are stepped over, not read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

Value = int | memoryview
Field = tuple[int, Value]
ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}  # TensorProto.DataType


class NotOnnx(ValueError):
    """The bytes are no ONNX graph."""


class Tensor(NamedTuple):
    """A graph's input or output; an axis that is not fixed is -1."""

    name: str
    shape: list[int]


@dataclass(frozen=True)
class Graph:
    """The parts of a graph that matter to a compiler's front door."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    output_node: str  # the name of the node that makes the first output
    opset: int
    operators: list[str]
    weight_bytes: int


def read(content: bytes) -> Graph:
    """Raises NotOnnx."""
    try:
        model = list(_fields(memoryview(content)))
        opsets = [dict(_fields(_bytes(value))) for number, value in model if number == 8]
        opset = max((_int(entry.get(2, 0)) for entry in opsets if not entry.get(1)), default=0)
        graphs = [_bytes(value) for number, value in model if number == 7]
        if len(graphs) != 1 or not opset:
            raise NotOnnx("no graph or no opset")
        return _graph(list(_fields(graphs[0])), opset)
    except (IndexError, UnicodeDecodeError, TypeError) as error:
        raise NotOnnx(str(error)) from error


def _graph(fields: list[Field], opset: int) -> Graph:
    nodes = [_node(_bytes(value)) for number, value in fields if number == 1]
    weights = [_initializer(_bytes(value)) for number, value in fields if number == 5]
    inputs = [_tensor(_bytes(value)) for number, value in fields if number == 11]
    outputs = [_tensor(_bytes(value)) for number, value in fields if number == 12]
    if not nodes or not inputs or not outputs:
        raise NotOnnx("a graph without nodes, inputs or outputs")
    named = {name for name, _ in weights}
    makers = [
        node.name or f"{node.operator}_{index}" for index, node in enumerate(nodes) if outputs[0].name in node.outputs
    ]
    if not makers:
        raise NotOnnx(f"no node makes {outputs[0].name}")
    return Graph(
        inputs=[tensor for tensor in inputs if tensor.name not in named],
        outputs=outputs,
        output_node=makers[0],
        opset=opset,
        operators=[node.operator for node in nodes],
        weight_bytes=sum(size for _, size in weights),
    )


class _Node(NamedTuple):
    name: str
    operator: str
    outputs: list[str]


def _node(message: memoryview) -> _Node:
    fields = list(_fields(message))
    return _Node(_text(fields, 3), _text(fields, 4), [_str(value) for number, value in fields if number == 2])


def _initializer(message: memoryview) -> tuple[str, int]:
    fields = list(_fields(message))
    count = 1
    for dim in _repeated_ints(fields, 1):
        count *= dim
    kind = next((_int(value) for number, value in fields if number == 2), 1)
    return _text(fields, 8), count * ELEMENT_BYTES.get(kind, 4)


def _tensor(message: memoryview) -> Tensor:
    fields = list(_fields(message))
    shape: list[int] = []
    for kind in _nested(_nested(_messages(fields, 2), 1), 2):
        for number, dim in _fields(kind):
            if number == 1:
                shape.append(_int(dict(_fields(_bytes(dim))).get(1, -1)))
    return Tensor(_text(fields, 1), shape)


def _messages(fields: list[Field], number: int) -> list[memoryview]:
    return [_bytes(value) for found, value in fields if found == number]


def _nested(messages: list[memoryview], number: int) -> list[memoryview]:
    return [inner for message in messages for inner in _messages(list(_fields(message)), number)]


def _repeated_ints(fields: list[Field], number: int) -> Iterator[int]:
    """Packed or not: writers differ."""
    for found, value in fields:
        if found != number:
            continue
        if isinstance(value, int):
            yield value
            continue
        position = 0
        while position < len(value):
            one, position = _varint(value, position)
            yield one


def _fields(message: memoryview) -> Iterator[Field]:
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(wire, -1)
        if wire == 2:
            size, position = _varint(message, position)
        if number == 0 or size < 0 or position + size > len(message):
            raise NotOnnx("bytes that are no protobuf message")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _text(fields: list[Field], number: int) -> str:
    return next((_str(value) for found, value in fields if found == number), "")


def _str(value: Value) -> str:
    return str(_bytes(value), "utf-8")


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise NotOnnx("a number where a message was due")
    return value


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise NotOnnx("a message where a number was due")
    return value
