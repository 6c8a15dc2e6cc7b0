"""Around every request: an id, the time it took, the counters, `Server-Timing`. Plain ASGI, which costs microseconds."""

import json
import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import MEDIA_TYPE, fault, problem
from app.service.stages import Stages
from app.service.telemetry import Telemetry

log = logging.getLogger("reid.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBES = ("/livez", "/readyz", "/metrics")


class Envelope:
    """Gives `request.state.request_id` and `request.state.stages`; writes no query string, name or picture to the log."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app, self._telemetry, self._clock = app, telemetry, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request through."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        stages = Stages(self._clock)
        scope.setdefault("state", {}).update(request_id=request_id, stages=stages)
        answer = _Answer(send, request_id, stages)
        started = self._clock()
        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            answer.status = 499  # left before the body was read; nobody is there to be answered
        except Exception as error:  # ours to mend: whole in the log, an id to the client
            log.error("request %s failed", request_id, exc_info=error)
            if answer.started:
                raise
            await fault(request_id)(scope, receive, answer)
        finally:
            seconds = self._clock() - started
            # A path nobody serves has no route: its name must not become a label, or anyone could make labels.
            route = getattr(scope.get("route"), "path", "unmatched")
            self._telemetry.request(f"{scope['method']} {route}", answer.status, seconds, stages.ms)
            # Whoever asks every few seconds whether all is well would fill the log with nothing.
            level = logging.DEBUG if route in _PROBES and answer.status == 200 else logging.INFO
            log.log(level, "%s %s %d %.1f ms %s", scope["method"], route, answer.status, seconds * 1000, request_id)


class _Answer:
    """Adds our headers to the answer, and turns the framework's plain 413 into a problem."""

    def __init__(self, send: Send, request_id: str, stages: Stages) -> None:
        self._send, self._request_id, self._stages = send, request_id, stages
        self.status, self.started = 500, False
        self._replaced: bytes | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.started = message["status"], True
            headers = MutableHeaders(scope=message)
            if self.status == 413 and headers.get("content-type", "").startswith("text/plain"):
                detail = "the body is larger than this route takes"
                self._replaced = json.dumps(problem(self._request_id, 413, "too_large", detail)).encode()
                headers["content-type"] = MEDIA_TYPE
                headers["content-length"] = str(len(self._replaced))
            headers["x-request-id"] = self._request_id
            headers["x-content-type-options"] = "nosniff"
            headers.setdefault("cache-control", "no-store")  # answers speak of people; a browser need not keep them
            if self._stages.ms:
                total_ms = self._stages.rest() * 1000  # from here on it is the network's time
                parts = {**self._stages.ms, "total": total_ms}
                headers["server-timing"] = ", ".join(f"{stage};dur={ms:.2f}" for stage, ms in parts.items())
        elif message["type"] == "http.response.body" and self._replaced is not None:
            message = {"type": "http.response.body", "body": self._replaced}
        await self._send(message)
