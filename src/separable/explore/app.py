"""Routes of the page: questions and uploads, answered by a few worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from html import escape
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive

from separable.borders import canonical, registered_borders
from separable.errors import SeparableError
from separable.explore import limits
from separable.explore.bodies import Bodies, RefusedError, uploaded
from separable.explore.guards import Origins, SecurityHeaders, Token, Trusted, mistake
from separable.explore.limits import UPLOAD_BYTES, InputError
from separable.explore.questions import LASTING, QUESTIONS, UPLOADS, names_of_uploads
from separable.explore.uploads import Store
from separable.explore.workers import EndedError, FailedError, Job, Workers

__all__ = ["create_app"]

log = logging.getLogger(__name__)

AT_ONCE, WAITING = 2, 32  # computations that run, and that wait
JSON_BYTES = 2 << 20  # largest question; a kernel of 255 x 255 numbers takes 1.5 MB
FRAMING = 64 << 10  # bytes around the file in the body of an upload
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
GONE = 499  # status of an answer to a closed connection


def create_app(
    *, token: str | None = None, hosts: list[str] | None = None, numbers: bool = False
) -> Starlette:
    """Make the web application.

    Parameters
    ----------
    token : str, optional
        Token that every request must carry (``?token=`` once, then a cookie). None: no token.
    hosts : list of str, optional
        Host names under which the page may be requested. Default: those of this computer, so that
        no other site can reach the page under a name of its own.
    numbers : bool
        Whether numeric addresses are accepted as well.

    Examples
    --------
    >>> create_app(token="secret").routes[0].path
    '/'
    """
    guards = [Middleware(SecurityHeaders), Middleware(Trusted, names=hosts, numbers=numbers)]
    if token is not None:
        guards.append(Middleware(Token, token=token))
    guards.append(Middleware(Origins))
    page = _Page()
    routes = [
        Route("/", _index),
        Route("/static/{name}", _file),
        Route("/api/start", page.start),
        *(
            Route(f"/api/{name}", page.answering(name), methods=["POST"])
            for name in QUESTIONS
            if name != "start"
        ),
        Route("/api/upload/{kind}", page.upload, methods=["POST"]),
    ]

    @contextlib.asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        yield
        page.workers.close()

    handlers: Any = {HTTPException: _refused, ClientDisconnect: _gone, Exception: _failed}
    app = Starlette(routes=routes, middleware=guards, exception_handlers=handlers, lifespan=running)
    app.state.page = page
    return app


class _Page:
    """State of the page: uploads, cached answers and running computations."""

    def __init__(self) -> None:
        self.store = Store()
        self.bodies = Bodies()
        self.workers = Workers()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._lasting: dict[str, Any] = {}

    async def start(self, request: Request) -> Response:
        """Return the lists that the page offers: kernels, pictures, networks."""
        return await self._computed(request, Job("start", b"{}", key="start"))

    def answering(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        """Return the route of a question: JSON in, JSON out, errors as text."""

        async def endpoint(request: Request) -> Response:
            try:
                async with self.bodies.of(request, JSON_BYTES, upload=False) as content:
                    job = self._job(name, content)
                    return await self._computed(request, job)
            except RefusedError as error:
                return mistake(str(error), error.status)
            except SeparableError as error:  # of the border mode
                return mistake(str(error))

        return endpoint

    def _job(self, name: str, content: bytearray) -> Job:
        """Return the job of a question, with the uploads that it names."""
        try:
            asked = json.loads(content)
        except (ValueError, RecursionError):
            raise InputError("expected JSON") from None
        if not isinstance(asked, dict):
            raise InputError("expected a JSON object")
        arrays = {n: self.store.get(n) for n in names_of_uploads(asked)}
        key = f"{name} {str(asked.get('network'))[:60]}" if name in LASTING else ""
        # The text takes less memory than its values while the job waits; the worker parses it. Border
        # modes are looked up here: those registered in this process are not known in a worker.
        mode = asked.get("mode")
        border = canonical(mode) if isinstance(mode, str) else None
        return Job(name, bytes(content), arrays, key, border)

    async def upload(self, request: Request) -> Response:
        """Accept a kernel, a picture or a report."""
        kind = request.path_params["kind"]
        name = f"upload {kind}"
        if name not in UPLOADS:
            return mistake(f"unknown kind of upload {kind[:60]!r}", 404)
        try:
            async with self.bodies.of(request, UPLOAD_BYTES + FRAMING, upload=True) as content:
                file = uploaded(request.headers.get("content-type", ""), content)
                if len(file) > UPLOAD_BYTES:
                    raise RefusedError(
                        f"too large: at most {UPLOAD_BYTES >> 20} MiB are accepted", 413
                    )
                return await self._computed(request, Job(name, file))
        except RefusedError as error:
            return mistake(str(error), error.status)
        except InputError as error:
            return mistake(str(error))

    async def _computed(self, request: Request, job: Job) -> Response:
        """Answer a question in a worker for as long as the client waits."""
        if self._waiting >= WAITING + AT_ONCE:
            return mistake("the server is busy with other requests. Try again", 503)
        self._waiting += 1
        work = asyncio.ensure_future(self._in_turn(job))
        gone = asyncio.ensure_future(_until_gone(request.receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                job.end()
                work.cancel()
            return await _answered(work, request)
        finally:
            self._waiting -= 1
            job.end()
            gone.cancel()

    async def _in_turn(self, job: Job) -> Any:
        if job.key in self._lasting:
            return self._lasting[job.key]
        async with self._turn:
            alarm = asyncio.get_running_loop().call_later(limits.WORK_SECONDS, job.end)
            try:
                found = await run_in_threadpool(self.workers.run, job)
            finally:
                alarm.cancel()
        if "array" in found:
            found = {"upload": self.store.put(found.pop("array")), **found}
        if job.key:
            self._lasting[job.key] = found
        return found


async def _answered(work: asyncio.Future[Any], request: Request) -> Response:
    """Return the answer of a computation, or the reason why there is none."""
    try:
        return JSONResponse(await work)
    except SeparableError as error:
        return mistake(str(error))
    except asyncio.CancelledError:
        return Response(status_code=GONE)
    except EndedError:
        return mistake("the computation took too long. Try something smaller", 503)
    except FailedError as error:
        log.error("request %s failed in a worker:\n%s", request.url.path, error)
        return _ours()


async def _until_gone(receive: Receive) -> None:
    """Return when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        continue


def _static(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        content = _parts()[name].read_bytes()
        return Response(content, media_type=TYPES[name.rpartition(".")[2]])

    return endpoint


async def _index(request: Request) -> Response:
    """Serve the page, with the border modes that are registered now."""
    modes = "".join(
        f'<option title="{escape(border.help)}">{escape(border.name)}</option>'
        for border in registered_borders()
    )
    page = _parts()["index.html"].read_text(encoding="utf-8")
    return Response(page.replace("<!-- border modes -->", modes), media_type=TYPES["html"])


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _parts():
        return mistake("there is no such page", 404)
    return await _static(name)(request)


@lru_cache(maxsize=1)
def _parts() -> dict[str, Any]:
    """Return the static files of the page and those that it shares with reports."""
    folders = [
        files(package).joinpath("static") for package in ("separable.pages", "separable.explore")
    ]
    found = (f for folder in folders for f in folder.iterdir() if f.is_file())
    return {f.name: f for f in found if f.name.rpartition(".")[2] in TYPES}


async def _refused(request: Request, error: HTTPException) -> Response:
    return mistake(error.detail, error.status_code)


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=GONE)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("request %s failed", request.url.path, exc_info=error)
    return _ours()


def _ours() -> Response:
    return mistake(
        "this failed because of a bug in the program. The terminal shows the details", 500
    )
