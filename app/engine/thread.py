"""A device's thread: everything that is called on the device runs in it, one call after the other.

It is a daemon, unlike a pool's threads: one that hangs inside a library must not keep the process from ending.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class DeviceThread:
    """`await thread.call(work)`. It starts with the first call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None: the last one
        self._thread: threading.Thread | None = None

    def call(self, work: Callable[[], Answer]) -> "asyncio.Future[Answer]":
        """Run it after what was called before. Whoever stops waiting for the answer does not stop the work."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        answer.add_done_callback(_retrieved)

        def run() -> None:
            try:
                tell: tuple[Callable[[Any], None], object] = (answer.set_result, work())
            except StopIteration as error:  # which no future takes
                tell = (answer.set_exception, RuntimeError(f"a device raised {error!r}"))
            except BaseException as error:
                tell = (answer.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_unless_done, answer, *tell)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(run)
        return answer

    def end(self) -> None:
        """End after what was called; nothing is waited for."""
        self._calls.put(None)

    def _run(self) -> None:
        while (run := self._calls.get()) is not None:
            run()
            del run  # an idle thread keeps no crops and no embedder


def _unless_done(answer: "asyncio.Future[Any]", tell: Callable[[Any], None], outcome: object) -> None:
    if not answer.done():
        tell(outcome)


def _retrieved(answer: "asyncio.Future[Any]") -> None:
    """An error that comes after everybody has gone is nobody's."""
    if not answer.cancelled():
        answer.exception()
