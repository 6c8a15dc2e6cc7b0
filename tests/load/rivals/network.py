"""What the rivals share: bytes to crop as the service does it, and a plain ONNX Runtime session. Imports nothing heavier.

LitServe's environment has no more of this project than these modules and what they import.
"""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from app.core.preprocess import Crop, decode, normalise

ROUTE = "/v1/embeddings"  # as ours, so that every server gets the very same requests
ONNX, THREADS, PORT = "RIVAL_ONNX", "RIVAL_THREADS", "RIVAL_PORT"  # how a rival is told


class Network:
    """ONNX Runtime as its documentation opens it: all defaults but the number of threads."""

    def __init__(self, onnx: str, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    @classmethod
    def told(cls) -> "Network":
        """By the environment of a rival's process."""
        return cls(os.environ[ONNX], int(os.environ[THREADS]))

    def vectors(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Unit vectors float32 [n, dim] of uint8 [n, 256, 128, 3]."""
        raw = self._session.run(None, {self._input: normalise(crops)})[0]
        return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


def crop_of(image: Any) -> Crop:
    """Of an uploaded file."""
    return decode(image.file.read(), "image")


def answer_of(vector: npt.NDArray[np.float32]) -> dict[str, list[list[float]]]:
    """As ours answers."""
    return {"vectors": [vector.tolist()]}
