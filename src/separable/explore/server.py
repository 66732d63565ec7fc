"""Start the server of the page, for this computer or, with a token, for others."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable

from separable.errors import ArgumentError
from separable.explore.app import create_app
from separable.explore.guards import names_of_this_computer

__all__ = ["serve"]

HIGHEST_PORT = 65535
CONNECTIONS = 64  # largest number of connections; a browser opens six


def serve(
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until interrupted.

    Parameters
    ----------
    host : str
        Address to listen on. Other computers reach the page only if this is not a loopback
        address, and need the token in the printed address.
    port : int
        Port to listen on; 0 chooses a free one.
    browser : bool
        Whether to open the page in a browser.
    say : callable
        Called with the lines to print, the address first.

    Raises
    ------
    ArgumentError
        If the address cannot be listened on.
    """
    import uvicorn  # optional

    if not 0 <= port <= HIGHEST_PORT:
        raise ArgumentError(f"`--port` must be 0 .. {HIGHEST_PORT}; got {port}")
    listening = _listen(host, port)
    number = listening.getsockname()[1]
    local = _is_local(host)
    token = None if local else secrets.token_urlsafe(16)
    hosts = None if local else names_of_this_computer(host)
    shown = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        shown = socket.gethostname()
    address = f"http://{shown}:{number}/" + (f"?token={token}" if token else "")
    say(f"Open {address}")
    say("Stop with Ctrl-C. Nothing leaves this computer." if local else "Stop with Ctrl-C. Everyone who has this address can use the page.")  # fmt: skip
    if browser:
        threading.Timer(0.7, webbrowser.open, (address,)).start()
    settings = uvicorn.Config(
        create_app(token=token, hosts=hosts, numbers=not local),
        limit_concurrency=CONNECTIONS,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(CONNECTIONS)  # listen now: the address is printed before the server runs
    except OSError as error:
        found.close()
        raise ArgumentError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}. "
            "Choose another port with --port, or 0 for any free one"
        ) from None
    return found


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
