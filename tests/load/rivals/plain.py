"""A plain FastAPI handler: the framework's pool of threads calls the model, a crop at a time."""

import os
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, UploadFile

from tests.load.rivals.network import PORT, ROUTE, Network, answer_of, crop_of


def create_app(network: Network) -> FastAPI:
    """With one route, and one that says it is ready."""
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post(ROUTE)
    def embed(image: Annotated[UploadFile, File()]) -> dict[str, list[list[float]]]:
        return answer_of(network.vectors(crop_of(image)[None])[0])

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(Network.told()), port=int(os.environ[PORT]), log_level="warning")
