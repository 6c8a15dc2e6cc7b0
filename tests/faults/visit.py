"""What a client of a service does in these tests, and disks that come to grief."""

import os
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.service import Service

LOBBY = "/v1/collections/lobby"


@dataclass(frozen=True)
class Visit:
    """What a client of a service with a small index plan does."""

    http: httpx.AsyncClient
    service: Service

    def vector(self, number: int) -> list[float]:
        return np.random.default_rng(number).standard_normal(self.service.model.dim).tolist()  # type: ignore[no-any-return]

    async def add(self, start: int, stop: int) -> httpx.Response:
        items = [
            {"id": f"i{n:05}", "vector": self.vector(n), "person_id": f"p{n // 4}", "source": f"of-{n:05}.jpg"}
            for n in range(start, stop)
        ]
        body = {"fingerprint": self.service.model.fingerprint, "items": items}
        return await self.http.post(f"{LOBBY}/items", json=body)

    async def found(self, number: int) -> str:
        """The nearest item to an item's own vector."""
        answer = await self.http.post(f"{LOBBY}/search", params={"k": 1}, json={"vector": self.vector(number)})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["matches"][0]["id"])

    async def ids(self) -> list[str]:
        """Of all items."""
        found: list[str] = []
        cursor: str | None = None
        while True:
            options = {"limit": "1000"} | ({} if cursor is None else {"cursor": cursor})
            page = (await self.http.get(f"{LOBBY}/items", params=options)).json()
            found += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def check(self) -> dict[str, list[str]]:
        """Faults by what was looked at."""
        answer = await self.http.post("/v1/check", json={"wait": 30})
        assert answer.status_code == 200, answer.text
        return {finding["what"]: finding["faults"] for finding in answer.json()["findings"] if finding["faults"]}


Visiting = Callable[[Path], AbstractAsyncContextManager[Visit]]


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own, with little room."""

    path: Path

    def remount(self, options: str) -> None:
        """Change it, to `ro` or to a size."""
        run("mount", "-o", f"remount,{options}", str(self.path))

    def free(self) -> int:
        """Bytes that still fit."""
        told = os.statvfs(self.path)
        return told.f_bavail * told.f_frsize


def refusal(answer: httpx.Response) -> tuple[int, Any]:
    """Status and code."""
    return answer.status_code, answer.json().get("code")


def run(*command: str) -> str:
    """A command's output. Raises CalledProcessError."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
