"""The `aclruntime` stand-in, loaded anew for each test, and OMs for it."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests import standins
from tests.standins import tiny

Array = npt.NDArray[Any]


class Acl:
    """The module and short ways to use it."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.sessions: list[Any] = []

    def open(self, path: Path, device: int = 0) -> Any:
        options = self.module.session_options()
        options.log_level = 4
        self.sessions.append(self.module.InferenceSession(str(path), device, options))
        return self.sessions[-1]

    def feed(self, array: Array) -> list[Any]:
        """A list of one BaseTensor; the array must live on."""
        return [self.module.BaseTensor(array.ctypes.data, array.nbytes)]

    def outputs(self, session: Any, array: Array) -> list[Any]:
        """What `run` gives: one tensor, on the device."""
        outputs: list[Any] = session.run([session.get_outputs()[0].name], self.feed(array))
        return outputs

    def vectors(self, session: Any, array: Array) -> Array:
        (tensor,) = self.outputs(session, array)
        tensor.to_host()
        return np.array(tensor)

    @property
    def counters(self) -> dict[str, Any]:
        counters: dict[str, Any] = self.module.standin_counters()
        return counters


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Acl]]:
    """Imports it as a new process would, with these switches, in a working directory of its own."""
    loaded: list[Acl] = []
    monkeypatch.chdir(tmp_path)

    def begin(**switches: Any) -> Acl:
        monkeypatch.setenv("STANDIN_ACL", json.dumps(switches))
        spec = importlib.util.spec_from_file_location("aclruntime", standins.SITE / "aclruntime.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded.append(Acl(module))
        return loaded[-1]

    yield begin
    for acl in loaded:
        acl.sessions.clear()


@pytest.fixture(scope="session")
def om_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32, one crop a run."""
    return tiny.om(tmp_path_factory.mktemp("om"), batch=1)


@pytest.fixture(scope="session")
def om_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32, four crops a run."""
    return tiny.om(tmp_path_factory.mktemp("om"), batch=4)


@pytest.fixture(scope="session")
def om_4_aipp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uint8, four crops a run."""
    return tiny.om(tmp_path_factory.mktemp("om"), batch=4, aipp=True)


@pytest.fixture(scope="session")
def om_gears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32, one, two or four crops a run."""
    return tiny.om(tmp_path_factory.mktemp("om"), gears=(1, 2, 4))


@pytest.fixture
def crops() -> Array:
    """Four, as the network wants them."""
    return np.random.default_rng(7).standard_normal((4, 3, 8, 4), dtype=np.float32)


PRELUDE = """
import os, signal, sys, threading
import aclruntime, numpy as np
def session(path, device=0):
    options = aclruntime.session_options()
    options.log_level = 4
    return aclruntime.InferenceSession(path, device, options)
def run(session, crops):
    feeds = [aclruntime.BaseTensor(crops.ctypes.data, crops.nbytes)]
    return session.run([session.get_outputs()[0].name], feeds)
crops = np.random.default_rng(7).standard_normal((4, 3, 8, 4), dtype=np.float32)
"""


def program(code: str, om: Path, **switches: Any) -> tuple[list[str], dict[str, str]]:
    """Command and variables of a process of its own, for what ends processes; `om` is its argument."""
    return [sys.executable, "-c", PRELUDE + code, str(om)], standins.environment(acl=switches)


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program to its end."""

    def run(code: str, om: Path, **switches: Any) -> subprocess.CompletedProcess[str]:
        command, environment = program(code, om, **switches)
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run
