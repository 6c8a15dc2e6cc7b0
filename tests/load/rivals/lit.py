"""LitServe with dynamic batching: up to eight crops, gathered for 5 ms. Runs in an environment of its own."""

import os

import litserve  # type: ignore[import-not-found]  # in an environment of its own
import numpy as np
import numpy.typing as npt
from fastapi import Request

from app.core.preprocess import Crop
from tests.load.rivals.network import PORT, ROUTE, Network, answer_of, crop_of


class ReidApi(litserve.LitAPI):  # type: ignore[misc]  # hence of unknown type
    """Its six steps."""

    def setup(self, device: str) -> None:
        self.network = Network.told()

    def decode_request(self, request: Request) -> Crop:  # the annotation makes it a form
        return crop_of(request["image"])

    def batch(self, inputs: list[Crop]) -> npt.NDArray[np.uint8]:
        return np.stack(inputs)

    def predict(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.network.vectors(crops)

    def unbatch(self, output: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        return list(output)

    def encode_response(self, output: npt.NDArray[np.float32]) -> dict[str, list[list[float]]]:
        return answer_of(output)


if __name__ == "__main__":
    api = ReidApi(max_batch_size=8, batch_timeout=0.005, api_path=ROUTE)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ[PORT]), generate_client_file=False, log_level="warning")
