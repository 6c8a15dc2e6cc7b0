"""A stream of many gigabytes through a server of its own: how much memory it takes above the idle server, and how fast it goes.

    python -m tests.load.stream_memory                     # 2 GB of tar within 300 MB
    python -m tests.load.stream_memory --kind zip --megabytes 500

Crops are JPEGs with made-up bytes behind the picture's end, so that each is another content of the size asked for. The model
is the embedder that can be worked out by hand, the gallery the local one on a disk. The peak is the kernel's own (VmHWM),
reset when the server is idle. Ends with status 1 where it is above the limit, or where a crop was not acknowledged.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
KINDS = {
    "tar": "application/x-tar", "zip": "application/zip", "lines": "application/x-ndjson", "npy": "application/x-npy",
    "form": "multipart/form-data; boundary=b-1",
}  # fmt: skip


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", choices=KINDS, default="tar")
    parser.add_argument("--megabytes", type=int, default=2000, help="of the whole stream")
    parser.add_argument("--crop-bytes", type=int, default=100_000)
    parser.add_argument("--within-mb", type=int, default=300, help="above the idle server")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # the other process: its data directory
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve(given.serve))
        return
    count = max(1, given.megabytes * 10**6 // (98_304 if given.kind == "npy" else given.crop_bytes))
    with tempfile.TemporaryDirectory() as folder:
        told = measure(given.kind, count, given.crop_bytes, Path(folder))
    above = told["peak_mb"] - told["idle_mb"]
    print(json.dumps({"kind": given.kind, "crops": count, **told, "above_idle_mb": round(above, 1)}, indent=2))
    if above > given.within_mb or told["added"] != count:
        sys.exit(f"{above:.0f} MB above the idle server, {told['added']} of {count} crops acknowledged")


def measure(kind: str, count: int, crop_bytes: int, folder: Path) -> dict[str, float]:
    """Start a server, send it so many crops, and read its peak."""
    command = [sys.executable, "-m", "tests.load.stream_memory", "--serve", str(folder)]
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    try:
        assert server.stderr
        found = re.search(r":(\d+)$", server.stderr.readline())
        assert found, server.stderr.read()
        port = int(found[1])
        asyncio.run(send(port, kind, crops(kind, 50, crop_bytes)))  # so that what is loaded and made once is there
        idle = memory_mb(server.pid, "VmRSS")
        Path(f"/proc/{server.pid}/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        started = time.perf_counter()
        added, sent = asyncio.run(send(port, kind, crops(kind, count, crop_bytes, first=50)))
        seconds = time.perf_counter() - started
        peak = memory_mb(server.pid, "VmHWM")
    finally:
        server.kill()
        server.communicate()
    return {
        "added": added, "sent_mb": round(sent / 1e6, 1), "idle_mb": idle, "peak_mb": peak,
        "crops_per_s": round(count / seconds, 1),
    }  # fmt: skip


def memory_mb(pid: int, name: str) -> float:
    """A line of the kernel's account of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found
    return round(int(found[1]) * 1024 / 1e6, 1)


def crops(kind: str, count: int, crop_bytes: int, first: int = 0) -> Iterator[bytes]:
    """The stream of so many crops, piece by piece."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((160, 60, 3), 90, dtype=np.uint8)).save(buffer, "JPEG")
    picture = buffer.getvalue()
    numbers = range(first, first + count)
    if kind == "npy":
        header = io.BytesIO()
        shape = {"descr": "|u1", "fortran_order": False, "shape": (count, 256, 128, 3)}
        np.lib.format.write_array_header_1_0(header, shape)
        yield header.getvalue()
        yield from (number.to_bytes(8, "big") * (98_304 // 8) for number in numbers)
        return
    tail = bytes(max(0, crop_bytes - len(picture) - 8))
    for number in numbers:
        yield wrapped(kind, f"{number:08d}.jpg", picture + tail + number.to_bytes(8, "big"))
    yield {"tar": bytes(1024), "zip": end_of_zip(count), "lines": b"", "form": b"--b-1--\r\n"}[kind]


def wrapped(kind: str, name: str, data: bytes) -> bytes:
    """One crop in the stream's wrapping."""
    match kind:
        case "tar":
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            return entry.tobuf() + data + bytes(-len(data) % 512)
        case "zip":
            sizes = (zlib.crc32(data), len(data), len(data), len(name), 0)
            return struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0, *sizes) + name.encode() + data
        case "lines":
            return json.dumps({"image": base64.b64encode(data).decode(), "source": name}).encode() + b"\n"
        case _:
            head = f'--b-1\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
            return head.encode() + data + b"\r\n"


def end_of_zip(count: int) -> bytes:
    """A directory's end that tells of so many entries; the directory itself is not read."""
    return struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count % 65536, count % 65536, 0, 0, 0)


async def send(port: int, kind: str, pieces: Iterator[bytes]) -> tuple[int, int]:
    """Send and read at the same time; how many crops were acknowledged as added, and bytes sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        (
            "POST /v1/collections/lobby/items HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/x-ndjson\r\n"
            f"Content-Type: {KINDS[kind]}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        ).encode()
    )
    reading = asyncio.create_task(count_added(reader))
    sent = 0
    for piece in pieces:
        writer.write(b"%x\r\n" % len(piece) + piece + b"\r\n" if piece else b"")
        sent += len(piece)
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    added = await reading
    writer.close()
    return added, sent


async def count_added(reader: asyncio.StreamReader) -> int:
    """Lines of the answer that say so; whatever else is not `added` is shown."""
    added = 0
    while line := await reader.readline():
        if b'"status":"added"' in line:
            added += 1
        elif line.startswith(b"{"):
            print(line.decode(), file=sys.stderr)
    return added


async def serve(folder: Path) -> None:
    """The real routes, pipeline and gallery on the embedder that can be worked out by hand."""
    from dataclasses import replace

    from app.adapters.local_gallery import LocalGallery
    from app.adapters.memory import MemoryEmbedder
    from app.adapters.model_directory import ModelDirectory
    from app.api import create_app
    from app.cli.serve import Server, listen
    from app.engine import Device, trust
    from app.service.galleries import Galleries
    from app.service.ingest import Ingest
    from app.settings import Settings
    from app.wiring import build_service

    settings, device, store = Settings(data_dir=folder / "data"), MemoryEmbedder(), LocalGallery(folder / "data")
    built = build_service(
        ModelDirectory.open(settings.model_dir), [Device("memory", lambda: device)], store, settings, prove=trust
    )
    galleries = Galleries(store, device.fingerprint, device.dim, lambda: datetime.now(UTC))
    service = replace(built, galleries=galleries, ingest=Ingest(built.embedding, galleries, store))
    await service.start()
    await galleries.put("lobby", False)
    with listen("127.0.0.1", 0) as door:
        print(f"serving on 127.0.0.1:{door.getsockname()[1]}", file=sys.stderr, flush=True)
        await Server(create_app(service)).serve(sockets=[door])


if __name__ == "__main__":
    main()
