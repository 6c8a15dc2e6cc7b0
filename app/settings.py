"""Every setting, read from the environment once: `REID_` and the name in capitals, such as `REID_MODEL_DIR`."""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import BadSettings

DEMO_MODEL = Path(__file__).parent / "demo" / "model"
ANONYMOUS = "yes-i-know"


class Settings(BaseSettings):
    """Defaults serve the demo model on this machine alone."""

    model_config = SettingsConfigDict(env_prefix="REID_", extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    model_dir: Path = Field(DEMO_MODEL, description="Model directory that `python -m model_build export` wrote.")
    data_dir: Path = Field(Path("reid-data"), description="Directory of the galleries; one process at a time.")
    snapshot_dir: Path | None = Field(
        None,
        description="Folder of the snapshots, not in the data directory; none: beside it, `-snapshots` behind its name.",
    )
    data_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="Folders, separated by ':', below which the server may read data sets."
    )
    allow_anonymous: str = Field("", description=f"{ANONYMOUS!r} allows other addresses than loopback without keys.")
    variant: str = Field("onnx-fp32", description="Variant of the model directory to load.")
    devices: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Devices, separated by commas: cpu, or NPU chips such as ascend:0,ascend:1; none: the variant's own.",
    )
    batch_sizes: Annotated[tuple[int, ...], NoDecode] = Field(
        (), description="Batch sizes to load, separated by commas; none: all that the variant has."
    )
    device_timeout_s: float = Field(10.0, gt=0, le=3600, description="Seconds that a device may take for a batch.")
    timeout_ms: int = Field(
        10_000, ge=1, le=600_000, description="Milliseconds that an answer may take where its request says nothing."
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads of the CPU model; 0: one per core.")
    decode_threads: int = Field(2, ge=1, le=64, description="Threads that decode and resize pictures.")
    max_waiting: int = Field(256, ge=1, le=100_000, description="Crops that may wait for the device.")
    max_crops: int = Field(64, ge=1, le=1000, description="Crops in one request.")
    max_crop_bytes: int = Field(10 * 2**20, ge=1024, description="Bytes of one encoded crop.")
    max_crop_pixels: int = Field(25_000_000, ge=256, description="Pixels of one encoded crop.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least severe lines to log.")

    @field_validator("data_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(Path(part) for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("devices", "batch_sizes", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("devices")
    @classmethod
    def _known_devices(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if not re.fullmatch(r"cpu|ascend:\d{1,3}", name)]:
            raise ValueError(f"{', '.join(unknown)}: a device is `cpu` or `ascend:` and a chip's number")
        if len(set(value)) < len(value):
            raise ValueError("a device is named twice")
        return value

    @field_validator("batch_sizes")
    @classmethod
    def _sane_sizes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= size <= 256 for size in value):
            raise ValueError("batch sizes lie between 1 and 256")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _a_request_fits_the_queue(self) -> Self:
        if self.max_crops > self.max_waiting:
            raise ValueError(
                f"max_crops ({self.max_crops}) above max_waiting ({self.max_waiting}): such requests never fit"
            )
        return self

    @model_validator(mode="after")
    def _loopback_unless_told(self) -> Self:
        """Without keys, whoever reaches the port reads and erases pictures of people."""
        if not is_loopback(self.host) and self.allow_anonymous != ANONYMOUS:
            raise ValueError(
                f"host {self.host} is reachable from outside and there are no keys; "
                f"set REID_ALLOW_ANONYMOUS={ANONYMOUS} if your network keeps others out"
            )
        return self


def read_settings(**given: object) -> Settings:
    """Settings from the environment, with those given put over them. Raises BadSettings, naming each that is wrong.

    A variable that begins with REID_ and is no setting is refused: it is a typing error, and its author expects an effect.
    """
    known = {f"REID_{name.upper()}" for name in Settings.model_fields}
    if unknown := sorted(name for name in os.environ if name.startswith("REID_") and name not in known):
        raise BadSettings(f"{', '.join(unknown)}: no such setting; there are {', '.join(sorted(known))}")
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        parts = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()]
        raise BadSettings("; ".join(parts)) from error


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
