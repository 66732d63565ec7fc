"""The routes of the page, and what guards them."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from separable.errors import SeparableError
from separable.explore import kernels, networks, pictures, plans
from separable.explore.limits import UPLOAD_BYTES, BusyError, InputError
from separable.explore.uploads import Store, decode_image, decode_kernel
from separable.kernels import catalogue

__all__ = ["create_app"]

log = logging.getLogger(__name__)

AT_ONCE, WAITING = 2, 32  # computations
JSON_BYTES = 4 << 20
LOCAL = ["127.0.0.1", "localhost", "[::1]", "testserver"]
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
EXAMPLES = {
    "gaussian:2": "Gaussian, sigma 2",
    "sobel": "Sobel",
    "box:5": "Box, 5 x 5",
    "laplacian_of_gaussian:2": "Laplacian of Gaussian",
    "disk:7": "Disk of radius 7",
    "gabor:8,theta=45deg": "Gabor at 45 degrees",
    "motion:15,angle=30deg": "Motion blur at 30 degrees",
    "difference_of_gaussians:1,2": "Difference of Gaussians",
    "ball:3": "Ball of radius 3, three axes",
}


def create_app(*, token: str | None = None, hosts: list[str] | None = None) -> Starlette:
    """Make the web application.

    Parameters
    ----------
    token : str, optional
        What every request must carry (``?token=`` once, a cookie after). Not asked for if not given.
    hosts : list of str, optional
        Names by which the page may be called; those of this computer if not given, so that no
        other site can reach it under a name of its own.

    Examples
    --------
    >>> create_app(token="secret").routes[0].path
    '/'
    """
    guards = [Middleware(_Headers), Middleware(TrustedHostMiddleware, allowed_hosts=hosts or LOCAL)]
    if token is not None:
        guards.append(Middleware(_Token, token=token))
    page = _Page()
    routes = [
        Route("/", _static("index.html")),
        Route("/static/{name}", _file),
        Route("/api/start", page.start),
        *(
            Route(f"/api/{name}", page.answering(answer), methods=["POST"])
            for name, answer in page.answers().items()
        ),
        Route("/api/upload/{kind}", page.upload, methods=["POST"]),
    ]
    handlers: Any = {HTTPException: _refused, Exception: _failed}
    return Starlette(routes=routes, middleware=guards, exception_handlers=handlers)


class _Page:
    """What the page remembers: uploads, and how much is being computed."""

    def __init__(self) -> None:
        self.store = Store()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    def answers(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """The questions by their names."""
        return {
            "kernel": self._kernel,
            "filter": self._filter,
            "plan": self._plan,
            "layer": networks.layer,
            "ledger": lambda asked: networks.ledger_rows(str(asked.get("network"))),
            "tradeoff": lambda asked: networks.tradeoff(str(asked.get("network"))),
        }

    async def start(self, request: Request) -> Response:
        """What the page offers."""
        return JSONResponse(
            {
                "kernels": catalogue(),
                "examples": EXAMPLES,
                "pictures": pictures.SAMPLES,
                "networks": await run_in_threadpool(networks.network_names),
                "tradeoffs": list(networks.TRADEOFFS),
            }
        )

    def answering(
        self, answer: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Make a route of a function: JSON in, JSON out, mistakes as text."""

        async def endpoint(request: Request) -> Response:
            try:
                asked = json.loads(await _body(request, JSON_BYTES))
                if not isinstance(asked, dict):
                    raise InputError("expected a JSON object")
            except (ValueError, RecursionError) as error:
                said = str(error) if isinstance(error, InputError) else "expected JSON"
                return _mistake(said)
            return await self._computed(lambda: answer(asked))

        return endpoint

    async def upload(self, request: Request) -> Response:
        """Take a kernel, a picture or a report."""
        kind = request.path_params["kind"]
        try:
            content = await _body(request, UPLOAD_BYTES)
        except InputError as error:
            return _mistake(str(error), 413)
        readers = {
            "kernel": self._take_kernel,
            "image": self._take_image,
            "report": networks.report_of,
        }
        if kind not in readers:
            return _mistake(f"no upload of the kind {kind!r}", 404)
        return await self._computed(lambda: readers[kind](content))

    async def _computed(self, work: Callable[[], dict[str, Any]]) -> Response:
        """Run a computation in a thread, few at once."""
        if self._waiting >= WAITING:
            return _mistake("this computer is busy with other requests. Try again", 503)
        self._waiting += 1
        try:
            async with self._turn:
                return JSONResponse(await run_in_threadpool(work))
        except (SeparableError, BusyError) as error:
            return _mistake(str(error))
        except MemoryError:
            return _mistake("not enough memory for that. Take something smaller")
        finally:
            self._waiting -= 1

    def _kernel(self, asked: dict[str, Any]) -> dict[str, Any]:
        return kernels.describe(kernels.choose(asked, self.store))

    def _filter(self, asked: dict[str, Any]) -> dict[str, Any]:
        chosen = kernels.choose(asked.get("kernel"), self.store)
        name = asked.get("image")
        image = (
            self.store.get(name["upload"]) if isinstance(name, dict) else pictures.sample(str(name))
        )
        rank = asked.get("rank", 1)
        if not isinstance(rank, int):
            raise InputError(f"`rank` must be a whole number; got {rank!r}")
        return pictures.compare(chosen, image, rank, str(asked.get("mode", "reflect")))

    def _plan(self, asked: dict[str, Any]) -> dict[str, Any]:
        chosen = kernels.choose(asked.get("kernel"), self.store)
        return plans.plan_rows(
            chosen, asked.get("shape", ()), asked.get("dtype"), asked.get("mode", "reflect"),
            asked.get("tol"), measure=bool(asked.get("measure")),
        )  # fmt: skip

    def _take_kernel(self, content: bytes) -> dict[str, Any]:
        return {"upload": self.store.put(decode_kernel(content))}

    def _take_image(self, content: bytes) -> dict[str, Any]:
        image, note = decode_image(content)
        return {"upload": self.store.put(image), "shape": list(image.shape), "note": note,
                "preview": pictures.preview(image)}  # fmt: skip


async def _body(request: Request, most: int) -> bytes:
    """Read a request's body, and stop when it gets too long."""
    said = request.headers.get("content-length", "0")
    too_large = f"too large: at most {most >> 20} MiB are taken"
    if not said.isdigit() or int(said) > most:
        raise InputError(too_large)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise InputError(too_large)
        parts.append(part)
    return b"".join(parts)


def _static(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        content = _parts()[name].read_bytes()
        return Response(content, media_type=TYPES[name.rpartition(".")[2]])

    return endpoint


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _parts():
        return _mistake("there is no such page", 404)
    return await _static(name)(request)


@lru_cache(maxsize=1)
def _parts() -> dict[str, Any]:
    """The page's own files, and those that it shares with reports."""
    folders = [files(room).joinpath("static") for room in ("separable.pages", "separable.explore")]
    found = (f for folder in folders for f in folder.iterdir() if f.is_file())
    return {f.name: f for f in found if f.name.rpartition(".")[2] in TYPES}


def _mistake(text: str, status: int = 400) -> Response:
    return JSONResponse({"error": text}, status_code=status)


async def _refused(request: Request, error: HTTPException) -> Response:
    return _mistake(error.detail, error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("request %s failed", request.url.path, exc_info=error)
    return _mistake(
        "this failed here, by a mistake of the program's. See where it was started", 500
    )


class _Headers:
    """Nothing from elsewhere, nothing framed, nothing kept."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, sending)


class _Token:
    """Let nobody in without the token, which a cookie then remembers."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        asked = request.query_params.get("token", "")
        given = asked or request.cookies.get("separable", "")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            refused = _mistake("open the address that was printed: it carries a token", 403)
            await refused(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and asked:
                cookie = f"separable={self.token}; HttpOnly; SameSite=Strict; Path=/"
                message["headers"] = [*message["headers"], (b"set-cookie", cookie.encode())]
            await send(message)

        await self.app(scope, receive, sending)
