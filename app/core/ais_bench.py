"""What ais_bench, the inference tool of the ModelZoo guide, leaves behind: names, summaries and vectors. No files here.

For each input and each output of the model it writes one file, `<stem>_<output>.bin`, `.npy` or `.txt`, the stem being the
input's name up to its first dot, and at the end of the run a summary that pairs inputs with results.
[ais_bench, infer/io_oprations.py, utils.py, summary.py: Ascend/tools of 2023-06, Ascend/msit of 2024-06]
"""

import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib import format as npy

from app.core.metrics import Floats
from app.core.records import is_storable, sort_names
from app.errors import BadInput

MAX_RESULT_BYTES = 2 * 2**20  # no vector is as long: 2,048 numbers are 8 KiB, or 25 KiB as text
MAX_SUMMARY_BYTES = 256 * 2**20  # 19,889 crops make 6 MB
_RESULT = re.compile(r"(?P<stem>[^./]+)_(?P<output>0|[1-9][0-9]*)\.(?P<form>bin|npy|txt)")
_PURE = "pure_infer_data"  # the stem of a run without inputs: its result belongs to no crop

Summary = Mapping[str, Sequence[str]]  # a result's base name -> the base names of the inputs that were written to it


@dataclass(frozen=True, slots=True)
class Result:
    """A result file (its path below the run) and the name of the input that it belongs to, `0005_c2_f0046985.bin`."""

    file: str
    source: str


@dataclass(frozen=True, slots=True)
class Results:
    """The files of a run by kind. `refused` are sentences, the others names."""

    usable: tuple[Result, ...] = ()
    refused: tuple[str, ...] = ()
    other_outputs: tuple[str, ...] = ()  # the vector is the model's first output
    skipped: tuple[str, ...] = ()  # no results

    def __add__(self, other: "Results") -> "Results":
        return Results(
            self.usable + other.usable,
            self.refused + other.refused,
            self.other_outputs + other.other_outputs,
            self.skipped + other.skipped,
        )


def is_result(name: str) -> bool:
    """Whether a file's name has the form of a result's.

    >>> is_result("0005_c2_f0046985_0.txt"), is_result("0005_c2_f0046985.bin")
    (True, False)
    """
    return _RESULT.fullmatch(name) is not None


def stem(name: str) -> str:
    """A file's base name up to its first dot: what a crop, its `.bin` and its result have in common."""
    return name.rpartition("/")[2].partition(".")[0]


def sort_results(names: Iterable[str], summary: Summary | None) -> Results:
    """The files of one folder by what they are. The summary tells the inputs; without one the names do."""
    usable: list[Result] = []
    refused: list[str] = []
    other_outputs: list[str] = []
    skipped: list[str] = []
    there = sort_names(names)
    for name in there:
        found = _RESULT.fullmatch(name)
        if found is None or found["stem"] == _PURE or not is_storable(name):
            skipped.append(name)
        elif found["output"] != "0":
            other_outputs.append(name)
        elif summary is None:
            usable.append(Result(name, f"{found['stem']}.bin"))
        elif len(inputs := summary.get(name, ())) == 1 and is_storable(inputs[0]):
            usable.append(Result(name, inputs[0]))
        else:
            refused.append(f"{name}: {_no_input(inputs)}")
    refused.extend(f"{name}: in the run's summary, but not in its folder" for name in _missing(summary or {}, there))
    return Results(tuple(usable), tuple(refused), tuple(other_outputs), tuple(skipped))


def _no_input(inputs: Sequence[str]) -> str:
    if not inputs:
        return "not in the run's summary; is it left over from another run?"
    return f"written for {' and for '.join(inputs)}, whose names are equal up to their first dot"


def _missing(summary: Summary, there: Sequence[str]) -> Iterator[str]:
    for name in sort_names(set(summary) - set(there)):
        found = _RESULT.fullmatch(name)
        if found is not None and found["stem"] != _PURE and found["output"] == "0":
            yield name


def refuse_rivals(results: Results) -> Results:
    """Of results for one and the same input none can be believed: all of them are refused, each by name."""
    files: dict[str, list[str]] = defaultdict(list)
    for result in results.usable:
        files[stem(result.source)].append(result.file)
    rivals = [names for names in files.values() if len(names) > 1]
    doubtful = {name for names in rivals for name in names}
    refused = tuple(
        f"{name}: one of {len(names)} results for one crop ({', '.join(names[:5])}); keep one"
        for names in rivals
        for name in names
    )
    usable = tuple(result for result in results.usable if result.file not in doubtful)
    return replace(results, usable=usable, refused=results.refused + refused)


def parse_summary(name: str, text: bytes) -> Summary | None:
    """The pairs of a summary; None where it lists no files. Raises BadInput for what ais_bench would not write."""
    try:
        pairs = json.loads(text)["filesinfo"].values()
        found: dict[str, list[str]] = {}
        for pair in pairs:
            (first, *_) = _bases(pair["infiles"])  # of several inputs of the model the first names the results
            for result in _bases(pair["outfiles"]):
                found.setdefault(result, []).append(first)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{name}: not a whole summary of ais_bench; inputs are taken from the results' names") from error
    return found or None


def _bases(paths: object) -> list[str]:
    """Base names. Raises TypeError or ValueError for what is no list of paths to files."""
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise TypeError("no list of paths")
    names = [path.rpartition("/")[2] for path in paths]
    if not all(names):
        raise ValueError("a path without a name")
    return names


def parse_vector(name: str, data: bytes) -> Floats:
    """The numbers in a result, float32 [n]. Raises BadInput, with the name, for what is not one whole vector."""
    if len(data) > MAX_RESULT_BYTES:
        raise BadInput(f"{name}: larger than {MAX_RESULT_BYTES} bytes, which no vector is")
    if not data:
        raise BadInput(f"{name}: empty")
    form = name.rpartition(".")[2]
    try:
        vector = {"txt": _from_text, "npy": _from_npy, "bin": _from_raw}[form](data)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error
    if not vector.size:
        raise BadInput(f"{name}: holds no number")
    return vector


def _from_raw(data: bytes) -> Floats:
    """Float32, little-endian, no header."""
    if len(data) % 4:
        raise BadInput(f"{len(data)} bytes are no whole float32 numbers")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _from_text(data: bytes) -> Floats:
    """One line of `%f` numbers, each followed by a blank."""
    if not data.endswith(b"\n"):
        raise BadInput("its line has no end; was ais_bench stopped?")
    if (lines := data.count(b"\n")) > 1:
        # Versions that open it to append were seen, beside others that write it anew [ais_bench, infer/utils.py].
        raise BadInput(
            f"{lines} lines, where one crop has one; older versions of ais_bench add to a file that is there"
        )
    try:
        if b"_" in data:  # Python reads 1_0 as 10
            raise ValueError(data)
        numbers = [float(number) for number in data.split()]
    except ValueError as error:
        raise BadInput("not all of it is numbers") from error
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
        return np.array(numbers, dtype=np.float64).astype(np.float32)


def _from_npy(data: bytes) -> Floats:
    """NumPy's format with the shape [1, n]. The header is read by itself: it may claim more than there is."""
    file = io.BytesIO(data)
    try:
        major, _ = npy.read_magic(file)
        read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    except (
        Exception
    ) as error:  # the header is Python source: what is wrong in it shows in whatever way NumPy's parser fails
        raise BadInput("not a NumPy file") from error
    if dtype != np.dtype("<f4"):
        raise BadInput(f"holds {dtype} instead of float32 (atc --output_type=FP32)")
    values = data[file.tell() :]
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[0] != 1) or len(values) != 4 * shape[-1]:
        raise BadInput(f"{len(values)} bytes of values for the shape {list(shape)}; one vector is [1, n]")
    return _from_raw(values)


def usual_length(vectors: Iterable[Floats]) -> int:
    """The length that most vectors have. Raises BadInput where there is no vector."""
    lengths = Counter(len(vector) for vector in vectors)
    if not lengths:
        raise BadInput("no result could be read")
    return lengths.most_common(1)[0][0]
