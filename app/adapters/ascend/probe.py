"""Which aclruntime is installed here, told from outside: this process never loads it.

python -m app.adapters.ascend.probe      its generation, or why it cannot be loaded: what `generation` below runs
"""

import importlib.util
import subprocess
import sys

from app.adapters.ascend.session import is_newer, load_library
from app.errors import BadDevice

TIMEOUT_S = 60  # it loads the driver's libraries, which takes a second or two


def generation(timeout_s: float = TIMEOUT_S) -> str:
    """The year of the sources that it was built from, as far as we can tell them apart. Raises BadDevice.

    Another process loads it: it brings CANN's and the driver's libraries along, and may end the process that it is in.
    """
    if importlib.util.find_spec("aclruntime") is None:
        raise BadDevice("aclruntime is not installed")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "app.adapters.ascend.probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadDevice(f"aclruntime was not loaded within {timeout_s:g} s: the driver hangs") from error
    if done.returncode != 0:
        *_, said = ["", *done.stderr.decode(errors="replace").splitlines()]
        raise BadDevice(said or f"aclruntime ended the process that loaded it (status {done.returncode})")
    return done.stdout.decode().split()[-1]


def _main() -> None:
    try:
        library = load_library()
    except BadDevice as error:
        sys.exit(str(error))
    sys.stdout.write("2024\n" if is_newer(library) else "2023\n")


if __name__ == "__main__":
    _main()
