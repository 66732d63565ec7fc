"""Checks that every request must pass before a route of the page sees it.

The page computes and stores uploads, so only the page itself may send requests; another web site
that is open in the same browser must not. Three facts are checked, none of which a web site can
choose: the host name of the request (`Host`), the site that it comes from (`Origin`,
`Sec-Fetch-Site`), and the type of its body. The token for other computers is checked here too.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Origins", "SecurityHeaders", "Token", "Trusted", "mistake", "names_of_this_computer"]

LOCAL = (
    "127.0.0.1",
    "localhost",
    "::1",
    "testserver",
)  # the last is the one of Starlette's test client
ANY = "*"
READS = ("GET", "HEAD")
JSON, MULTIPART = "application/json", "multipart/form-data"
UPLOADS = "/api/upload/"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}


def mistake(text: str, status: int = 400) -> Response:
    """Return an error answer with one sentence."""
    return JSONResponse({"error": text}, status_code=status)


def names_of_this_computer(host: str) -> list[str]:
    """Return the host names of a server that listens for other computers.

    Numeric addresses are always accepted: a site that points a name of its own at this computer
    sends that name.
    """
    name = socket.gethostname().lower()
    return [*LOCAL, host.lower(), name, f"{name}.local"]


class SecurityHeaders:
    """Add security headers: no foreign content, no frames, no caching."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Return the answer of the application with the headers added."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, sending)


class _Guard:
    """Middleware that answers instead of the application if `refusal` returns an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is refused, else None."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            answer = self.refusal(Request(scope))
            if answer is not None:
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Trusted(_Guard):
    """Refuse requests for host names that do not belong to this server.

    Parameters
    ----------
    app : ASGI application
    names : collection of str, optional
        Accepted host names; default: the loopback names. ``*`` accepts any.
    numbers : bool
        Whether numeric addresses are accepted as well.
    """

    def __init__(
        self, app: ASGIApp, names: Collection[str] | None = None, *, numbers: bool = False
    ) -> None:
        super().__init__(app)
        self.names = frozenset(LOCAL if names is None else (n.strip("[]").lower() for n in names))
        self.numbers = numbers

    def refusal(self, request: Request) -> Response | None:
        """Compare the host name, without its port, with the accepted ones."""
        hosts = request.headers.getlist("host")
        name = _name(hosts[0]) if len(hosts) == 1 else ""
        if ANY in self.names or name in self.names or (self.numbers and _is_address(name)):
            return None
        return mistake("this server has another host name. Open the address that was printed")


class Origins(_Guard):
    """Refuse requests from another site, and bodies of types that HTML forms can send.

    A browser sends `Origin` with every POST and `Sec-Fetch-Site` with every request to this
    computer, and no site can change them. Programs such as curl send neither; JSON is accepted
    from them because a web site cannot send JSON without these headers.
    """

    def refusal(self, request: Request) -> Response | None:
        """Check the origin of a request and the type of its body."""
        headers, path = request.headers, request.url.path
        reads = request.method in READS
        if reads and not path.startswith("/api/"):
            return None  # the page's own files
        same_site = _is_same_site(headers)
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if same_site is False or (same_site is None and not reads and content_type != JSON):
            return mistake(
                "this request does not come from the page itself. Open the address that was "
                "printed, or send the header Origin with it",
                403,
            )
        expected = MULTIPART if path.startswith(UPLOADS) else JSON
        if not reads and content_type != expected:
            return mistake(
                f"expected a body of type {expected}; got {content_type[:60] or 'none'}", 415
            )
        return None


class Token(_Guard):
    """Refuse requests without the token; a cookie keeps it after the first request."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        super().__init__(app)
        self.token = token

    def refusal(self, request: Request) -> Response | None:
        """Return None if the address or the cookie has the token (compared in constant time), or a 403."""
        given = request.query_params.get("token") or request.cookies.get("separable", "")
        if hmac.compare_digest(given.encode(), self.token.encode()):
            return None
        return mistake("open the address that was printed: it contains a token", 403)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set the cookie if the address contained the token."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != 403:
                cookie = f"separable={self.token}; HttpOnly; SameSite=Strict; Path=/"
                message["headers"] = [*message["headers"], (b"set-cookie", cookie.encode())]
            await send(message)

        asked = scope["type"] == "http" and "token" in Request(scope).query_params
        await super().__call__(scope, receive, sending if asked else send)


def _is_same_site(headers: Headers) -> bool | None:
    """Return whether a request comes from the page itself; None if its headers do not say."""
    origins = headers.getlist("origin")
    if origins:
        return len(origins) == 1 and _is_origin_of(origins[0], headers.get("host", ""))
    fetch_site = headers.get("sec-fetch-site")
    return None if fetch_site is None else fetch_site == "same-origin"


def _is_origin_of(origin: str, host: str) -> bool:
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower() != ""


def _name(host: str) -> str:
    """Return the name in a `Host` header, without port and brackets, in small letters."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
