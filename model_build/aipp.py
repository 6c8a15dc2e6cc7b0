"""The AIPP file: the NPU takes uint8 RGB crops and normalises them itself, a quarter of the bytes copied per crop.

Its numbers are the manifest's mean and std in AIPP's own form, `(pixel - min_chn) * var_reci_chn` [ATC manual, "AIPP
configuration"]: min_chn = 255 * mean and var_reci_chn = 1 / (255 * std). AIPP keeps both as float16, so they are not
the host's numbers exactly: `simulate` shows what is left, and MAX_ERROR bounds it.
"""

import re

import numpy as np
import numpy.typing as npt

from app.core.manifest import Preprocessing

# Largest error of `simulate` against exact normalisation, in units of std: measured 0.00113 over all 256 values and 3
# channels, nearly all of it the parameters' rounding to float16. Rounding the exact result to float16, which the NPU does
# with the other form's input, costs 0.0010. The NPU's own arithmetic is not documented: golden crops have the last word.
MAX_ERROR = 0.0012


def aipp_text(facts: Preprocessing) -> str:
    """The file for `atc --insert_op_conf`: static AIPP on input 0, one crop size, no cropping, no change of colour."""
    # Channel 0 is R: RGB888_U8 is not swapped, and the indices count channels after swap and conversion [ATC manual].
    minima = [f"    min_chn_{i}: {255 * mean:.15g}" for i, mean in enumerate(facts.mean)]
    factors = [f"    var_reci_chn_{i}: {1 / (255 * std):.15g}" for i, std in enumerate(facts.std)]
    lines = [
        "aipp_op {",
        "    aipp_mode: static",
        "    related_input_rank: 0",
        "    input_format: RGB888_U8",
        f"    src_image_size_w: {facts.width}",
        f"    src_image_size_h: {facts.height}",
        "    crop: false",
        "    csc_switch: false",
        "    rbuv_swap_switch: false",
        *minima,
        *factors,
        "}",
    ]
    return "\n".join(lines) + "\n"


def simulate(text: str, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What AIPP makes of uint8 [n, h, w, 3] by the file: float32 [n, 3, h, w].

    Parameters are rounded to float16 as AIPP keeps them; the arithmetic is float32, one of the two it may have.
    """
    minima, factors = _channels(text, "min_chn"), _channels(text, "var_reci_chn")
    planes = crops.transpose(0, 3, 1, 2).astype(np.float32)
    return (planes - minima[:, None, None]) * factors[:, None, None]


def _channels(text: str, name: str) -> npt.NDArray[np.float32]:
    found = dict(re.findall(rf"{name}_(\d)\s*:\s*(\S+)", text))
    return np.array([found[str(i)] for i in range(3)], dtype=np.float16).astype(np.float32)
