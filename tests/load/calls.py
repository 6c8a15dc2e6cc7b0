"""What is sent: JPEG crops of realistic sizes in every kind of request, whole bodies made before the clock runs.

The crops are drawn by the demo's own program, 3 to 9 kB each. `stamped` gives a crop bytes of its own where the service would
otherwise know it: an item's id is its content's hash, and the same crop twice adds nothing.
"""

import itertools
import random
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from app.demo.dataset import Recipe, draw_dataset

COLLECTION = "load"  # made, filled and left by the load test
Kind = Literal["embeddings", "search", "index", "mixed"]
SHARES = {"search": 0.7, "embeddings": 0.2, "index": 0.1}  # of `mixed`: a gallery is asked more often than it grows
_BOUNDARY = "0f6a1c1b7d3e4c55"  # chosen once; no JPEG of ours holds it
_FORM = f"multipart/form-data; boundary={_BOUNDARY}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to be sent."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Calls = Callable[[int], Call]  # the n-th request of a run


@cache
def drawn_jpegs() -> tuple[bytes, ...]:
    """About a hundred crops; the same ones every time."""
    return tuple(crop.jpeg for crop in draw_dataset(Recipe(seed=9, persons=12, distractors=0)))


def calls_of(kind: Kind, jpegs: Sequence[bytes], deadline_ms: float | None = None) -> Calls:
    """Requests of a kind. deadline_ms: sent along as `X-Timeout-Ms`. What is indexed is new, here and to the server."""
    run, fresh = secrets.randbits(63), itertools.count()  # not the number: that begins anew with each run
    headers = {"Content-Type": _FORM} | ({"X-Timeout-Ms": f"{deadline_ms:.0f}"} if deadline_ms else {})
    forms = [form(jpeg) for jpeg in jpegs]

    def call(number: int) -> Call:
        match _kind(kind, number):
            case "index":
                body = form(stamped(jpegs[number % len(jpegs)], next(fresh), run))
                return Call(f"/v1/collections/{COLLECTION}/items", body, headers)
            case "search":
                return Call(f"/v1/collections/{COLLECTION}/search?k=10", forms[number % len(forms)], headers)
            case _:
                return Call("/v1/embeddings", forms[number % len(forms)], headers)

    return call


def form_call(path: str, jpeg: bytes) -> Call:
    """One crop in a form."""
    return Call(path, form(jpeg), {"Content-Type": _FORM})


def form(jpeg: bytes) -> bytes:
    """A form with the crop in the field `image`."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="crop.jpg"\r\n'
    return f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + jpeg + f"\r\n--{_BOUNDARY}--\r\n".encode()


def stamped(jpeg: bytes, number: int, run: int) -> bytes:
    """The same picture in other bytes: a comment segment behind the start of the image (ITU T.81, B.2.4.5)."""
    note = struct.pack(">QQ", run, number)
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(note)) + note + jpeg[2:]


def _kind(kind: Kind, number: int) -> str:
    if kind != "mixed":
        return kind
    return random.Random(number).choices(list(SHARES), list(SHARES.values()))[0]
