"""How much of the model's own rate arrives over HTTP: `POST /v1/embeddings`, several clients, JPEG in, vectors out.

    python tests/load/efficiency.py MODEL_DIR [--clients 8] [--seconds 20] [--rounds 3]

Server, clients and the bare model run in processes of their own, the model with the same threads in both cases, one
after the other and in turn, so that a drift of the machine meets both. Prints the median ratio. Loopback only.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import aiohttp

from app.demo.dataset import Recipe, draw_dataset

ROOT = Path(__file__).parents[2]
BARE = """
import sys, time, numpy as np
from pathlib import Path
from app.adapters.model_directory import ModelDirectory
from app.adapters.onnx import OnnxEmbedder
directory = ModelDirectory.open(Path(sys.argv[1]))
embedder = OnnxEmbedder(directory.artefact("onnx-fp32"), "bare", directory.manifest.dim, threads=int(sys.argv[2]))
crops = np.resize(directory.golden().crops, (8, 256, 128, 3))
embedder.embed(crops)
done, started = 0, time.perf_counter()
while time.perf_counter() - started < float(sys.argv[3]):
    embedder.embed(crops)
    done += len(crops)
print(done / (time.perf_counter() - started))
"""


def bare_rate(model: Path, threads: int, seconds: float) -> float:
    """Crops a second of the adapter alone, normalising included, batches of eight."""
    command = [sys.executable, "-c", BARE, str(model), str(threads), str(seconds)]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment()).stdout
    )


def environment() -> dict[str, str]:
    """The children's environment: this checkout, nothing else of ours."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


async def served_rate(url: str, clients: int, seconds: float, jpegs: list[bytes]) -> tuple[float, list[float]]:
    """Crops a second over HTTP with so many clients in a closed loop, and each request's latency in ms."""
    latencies: list[float] = []
    deadline = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession, number: int) -> None:
        turn = number
        while time.perf_counter() < deadline:
            form = aiohttp.FormData()
            form.add_field("image", jpegs[turn % len(jpegs)], filename="crop.jpg", content_type="image/jpeg")
            turn += clients
            sent = time.perf_counter()
            async with session.post(f"{url}/v1/embeddings", data=form) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"status {answer.status}: {await answer.text()}")
                await answer.read()
            latencies.append((time.perf_counter() - sent) * 1000)

    async with aiohttp.ClientSession() as session:
        started = time.perf_counter()
        await asyncio.gather(*(client(session, number) for number in range(clients)))
        return len(latencies) / (time.perf_counter() - started), latencies


def start_server(model: Path, threads: int, data: Path) -> tuple[subprocess.Popen[str], str]:
    """`reid serve` on a free port, and its address."""
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--model", str(model), "--data", str(data)]
    quiet = {**environment(), "REID_THREADS": str(threads), "REID_LOG_LEVEL": "warning"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=quiet)
    assert process.stderr
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return process, found[0]
    raise RuntimeError(f"the server ended with status {process.wait()}")


async def wait_until_ready(url: str) -> None:
    """Returns once `/readyz` says so."""
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            async with session.get(f"{url}/readyz") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.1)
    raise RuntimeError("the server did not become ready in a minute")


async def measure(arguments: argparse.Namespace, data: Path) -> dict[str, object]:
    """Bare and served in turn."""
    jpegs = [crop.jpeg for crop in draw_dataset(Recipe(seed=9, persons=12, distractors=0))]
    ratios, rows = [], []
    for number in range(arguments.rounds):
        bare = await asyncio.to_thread(bare_rate, arguments.model, arguments.threads, arguments.seconds)
        process, url = await asyncio.to_thread(start_server, arguments.model, arguments.threads, data / str(number))
        try:
            await wait_until_ready(url)
            await served_rate(url, arguments.clients, 2, jpegs)
            served, latencies = await served_rate(url, arguments.clients, arguments.seconds, jpegs)
        finally:
            process.terminate()
            await asyncio.to_thread(process.communicate)
        ratios.append(served / bare)
        p50, p99 = statistics.median(latencies), sorted(latencies)[int(0.99 * len(latencies))]
        rows.append({"bare_per_s": bare, "served_per_s": served, "ratio": served / bare, "p50_ms": p50, "p99_ms": p99})
        print(json.dumps({key: round(value, 3) for key, value in rows[-1].items()}), file=sys.stderr)
    return {
        "clients": arguments.clients,
        "threads": arguments.threads,
        "median_ratio": statistics.median(ratios),
        "rounds": rows,
    }


def main() -> None:
    """Print the figures as JSON."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    with tempfile.TemporaryDirectory() as data:
        print(json.dumps(asyncio.run(measure(parser.parse_args(), Path(data))), indent=2))


if __name__ == "__main__":
    main()
