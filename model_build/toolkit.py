"""Where ATC is on this machine, which CANN it belongs to, and the environment that it may run in.

One of the few readers of the environment beside the settings: ATC works only in what `set_env.sh` leaves there. Our own
virtual environment is taken out of it. ATC's operator compiler is Python and runs with the first `python3` on the PATH;
it needs numpy below 2 and packages of its own, ours has numpy 2 and none of them.
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import CompileFailed

# Up to CANN 8.3 and from 8.5, as root and as another user [CANN installation guide, "environment variables"].
SET_ENV = ("ascend-toolkit/set_env.sh", "cann/set_env.sh")
ROOTS = (Path("/usr/local/Ascend"), Path.home() / "Ascend")
PYTHONS = (
    "VIRTUAL_ENV",
    "VIRTUAL_ENV_PROMPT",
    "PYTHONHOME",
    "__PYVENV_LAUNCHER__",
)  # they lead python3 to our packages


@dataclass(frozen=True, slots=True)
class Toolkit:
    """ATC and what it runs in. `identity` differs between two toolkits that may compile the same graph differently."""

    atc: Path
    environment: Mapping[str, str]
    version: str | None
    identity: str


def find_toolkit(environ: Mapping[str, str] | None = None, roots: Iterable[Path] = ROOTS) -> Toolkit:
    """The toolkit that `set_env.sh` put on the PATH. Raises CompileFailed with what to source."""
    given = os.environ if environ is None else environ
    environment = cleaned(given, our_environments(given))
    found = shutil.which("atc", path=environment.get("PATH", ""))
    if found is None:
        raise CompileFailed(_missing(roots))
    atc = Path(found).absolute()  # it is started in another folder
    version = _version(atc, environment)
    return Toolkit(atc, environment, version, version or hashlib.sha256(atc.read_bytes()).hexdigest())


def our_environments(environ: Mapping[str, str]) -> set[Path]:
    """The virtual environments that ATC must not see: the one we run in and the one that the shell has active."""
    ours = {Path(sys.prefix)} if sys.prefix != sys.base_prefix else set()
    return ours | ({Path(environ["VIRTUAL_ENV"])} if environ.get("VIRTUAL_ENV") else set())


def cleaned(environ: Mapping[str, str], ours: Collection[Path]) -> dict[str, str]:
    """The environment without these virtual environments: `set_env.sh`'s own entries stay as they are."""
    kept = {name: value for name, value in environ.items() if name not in PYTHONS}
    inside = {form for path in ours for form in (path, path.resolve())}
    for name in ("PATH", "PYTHONPATH"):
        entries = kept.pop(name, "").split(os.pathsep)
        outside = [entry for entry in entries if entry and not any(Path(entry).is_relative_to(path) for path in inside)]
        if outside:
            kept[name] = os.pathsep.join(outside)
    return kept


def _missing(roots: Iterable[Path]) -> str:
    usual = [root / script for root in roots for script in SET_ENV]
    here = next((path for path in usual if path.is_file()), None)
    if here is not None:
        return f"atc is not on the PATH: run `source {here}` in this shell first"
    return (
        "atc is not on the PATH, and no CANN toolkit lies in the usual places; where there is one, source its set_env.sh "
        f"first: {' or, from CANN 8.5, '.join(map(str, usual[:2]))} (nnrt, the run-time package, has no atc)"
    )


def _version(atc: Path, environment: Mapping[str, str]) -> str | None:
    """Of the toolkit: its information file, else the folder that it is installed in. None where neither tells."""
    homes = [Path(environment[name]) for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH") if environment.get(name)]
    for home in homes:
        for file in sorted(home.glob("*-linux/ascend_toolkit_install.info")):  # aarch64-linux or x86_64-linux
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if found := re.search(r"^version\s*=\s*(\S+)", text, re.MULTILINE):
                return found[1]
    for path in (*(home.resolve() for home in homes), atc.resolve()):
        for part in reversed(path.parts):  # .../ascend-toolkit/8.1.RC1/..., .../cann-8.5.1/...
            if found := re.fullmatch(r"(?:cann-)?(\d+\.\d+(?:\.\w+)*)", part, re.IGNORECASE):
                return found[1]
    return None
