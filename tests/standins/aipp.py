"""The `aipp_op { ... }` file, as far as a static AIPP on RGB crops needs it. Standard library only.

Ranges and names are the ATC manual's (AIPP, configuration file template). The real file is protobuf text; here a field
must stand on a line of its own, which is how the manual's template and public files are written.
"""

import re

FIELD = re.compile(r"^\s*([a-z_0-9]+)\s*:\s*(\S+)\s*$")
INTEGERS = {
    "related_input_rank": (0, 100),
    "max_src_image_size": (0, 2**32),
    "src_image_size_w": (0, 4096),
    "src_image_size_h": (0, 4096),
    "load_start_pos_w": (0, 4095),
    "load_start_pos_h": (0, 4095),
    "crop_size_w": (0, 4096),
    "crop_size_h": (0, 4096),
}
BOOLEANS = {"crop", "csc_switch", "rbuv_swap_switch", "ax_swap_switch", "single_line_mode", "resize", "padding"}
FORMATS = {"RGB888_U8", "XRGB8888_U8", "YUV420SP_U8", "YUV400_U8", "YUV422SP_U8", "ARGB8888_U8", "AYUV444_U8"}


class BadAipp(ValueError):
    """`parsed` is False where the text is no such file, True where a value is out of its range."""

    def __init__(self, sentence: str, parsed: bool = True) -> None:
        super().__init__(sentence)
        self.parsed = parsed


def parse(text: str) -> dict[str, str]:
    """The fields as written. Raises BadAipp."""
    body = re.fullmatch(r"\s*aipp_op\s*\{(.*)\}\s*", re.sub(r"#.*", "", text), re.DOTALL)
    if body is None:
        raise BadAipp("no aipp_op { ... }", parsed=False)
    fields: dict[str, str] = {}
    for line in filter(str.strip, body.group(1).splitlines()):
        match = FIELD.match(line)
        if match is None or not _known(match.group(1)) or match.group(1) in fields:
            raise BadAipp(f"the line {line.strip()!r}", parsed=False)
        fields[match.group(1)] = match.group(2)
    return fields


def check(fields: dict[str, str], input_shape: list[int]) -> None:
    """input_shape: NCHW. Raises BadAipp."""
    if fields.get("aipp_mode") != "static":
        raise BadAipp("aipp_mode must be static here", parsed=fields.get("aipp_mode") == "dynamic")
    if fields.get("input_format") not in FORMATS:
        raise BadAipp(f"input_format {fields.get('input_format')}", parsed=False)
    if fields["input_format"] != "RGB888_U8":
        raise BadAipp(f"{fields['input_format']} does not give {input_shape[1]} channels without csc_switch")
    for name in sorted(fields):
        _check_value(name, fields[name])
    given = (int(fields.get("src_image_size_h", 0)), int(fields.get("src_image_size_w", 0)))
    if fields.get("crop") != "true" and given not in {(0, 0), tuple(input_shape[2:])}:
        raise BadAipp(f"src_image_size {given} is not the model's input size {tuple(input_shape[2:])}")


def normalise(fields: dict[str, str], channel: int) -> list[float]:
    """mean, min and reciprocal of the variance of a channel: out = (in - mean - min) * var_reci (ATC manual)."""
    names = (f"mean_chn_{channel}", f"min_chn_{channel}", f"var_reci_chn_{channel}")
    return [float(fields.get(name, default)) for name, default in zip(names, ("0", "0", "1"), strict=True)]


def _known(name: str) -> bool:
    channels = re.fullmatch(r"(mean_chn|min_chn|var_reci_chn)_[0-3]", name)
    return bool(channels) or name in INTEGERS or name in BOOLEANS or name in {"aipp_mode", "input_format"}


def _check_value(name: str, value: str) -> None:
    if name in BOOLEANS and value not in {"true", "false"}:
        raise BadAipp(f"{name}: {value}", parsed=False)
    if name in INTEGERS or name.startswith("mean_chn"):
        low, high = INTEGERS.get(name, (0, 255))
        if not re.fullmatch(r"\d+", value):
            raise BadAipp(f"{name}: {value}", parsed=False)
        if not low <= int(value) <= high:
            raise BadAipp(f"{name} {value} is not in [{low}, {high}]")
    if name.startswith(("min_chn", "var_reci_chn")):
        _check_half(name, value)


def _check_half(name: str, value: str) -> None:
    """min_chn is fp16 in [0, 255]; var_reci_chn is fp16 within fp16's range, and nothing survives a zero."""
    try:
        number = float(value)
    except ValueError:
        raise BadAipp(f"{name}: {value}", parsed=False) from None
    low, high = (0.0, 255.0) if name.startswith("min_chn") else (2.0**-24, 65504.0)
    if not low <= number <= high:
        raise BadAipp(f"{name} {value} is not in [{low}, {high}]")
