"""The bodies of requests: how many bytes of them are held together, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from email.message import Message

from starlette.requests import ClientDisconnect, Request

from separable.explore.limits import (
    BODIES_BYTES,
    BODY_SECONDS,
    DRAIN_SECONDS,
    STALLED_SECONDS,
    UPLOADS_AT_ONCE,
    InputError,
)

__all__ = ["Bodies", "RefusedError", "uploaded"]

PART_HEADERS = 8 << 10  # bytes before the file in a multipart body
BUSY = "too many uploads at once. Try again in a few seconds"


class RefusedError(InputError):
    """A body that is not taken; `status` is that of the answer."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Bodies:
    """Bytes of all bodies that are being read or worked on.

    Attributes
    ----------
    held : int
        Bytes, at most `limits.BODIES_BYTES`.
    uploads : int
        How many uploads are being read or worked on.
    """

    def __init__(self) -> None:
        self.held = 0
        self.uploads = 0

    @contextlib.asynccontextmanager
    async def of(
        self, request: Request, max_bytes: int, *, upload: bool
    ) -> AsyncIterator[bytearray]:
        """Read a body; its bytes count until the work with it is done.

        Parameters
        ----------
        request : Request
        max_bytes : int
            Bytes that one body may have.
        upload : bool
            Whether it counts among the uploads, of which few are taken at once.

        Raises
        ------
        RefusedError
            413 if it is too large, 429 if too much is held already, 408 if it comes too slowly.
        ClientDisconnect
            If the client is gone.
        """
        if upload and self.uploads >= UPLOADS_AT_ONCE:
            await _drain(request)
            raise RefusedError(BUSY, 429)
        self.uploads += upload
        content = bytearray()
        try:
            try:
                await self._fill(content, request, max_bytes)
            except RefusedError as refused:
                self._release(content)
                if refused.status != 408:
                    await _drain(request)
                raise
            yield content
        finally:
            self.uploads -= upload
            self._release(content)

    def _release(self, content: bytearray) -> None:
        self.held -= len(content)
        content.clear()

    async def _fill(self, content: bytearray, request: Request, max_bytes: int) -> None:
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > max_bytes:
            raise RefusedError(f"too large: at most {max_bytes >> 20} MiB are taken", 413)
        deadline = time.monotonic() + BODY_SECONDS
        while True:
            left = min(STALLED_SECONDS, deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(request.receive(), max(left, 0.001))
            except asyncio.TimeoutError:
                raise RefusedError("the upload came too slowly. Try again", 408) from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part = message.get("body", b"")
            if len(content) + len(part) > max_bytes:
                raise RefusedError(f"too large: at most {max_bytes >> 20} MiB are taken", 413)
            if self.held + len(part) > BODIES_BYTES:
                raise RefusedError(BUSY, 429)
            content += part
            self.held += len(part)
            if not message.get("more_body", False):
                return


async def _drain(request: Request) -> None:
    """Let the rest of a body pass for a while: a client that still sends reads no answer."""
    ends = time.monotonic() + DRAIN_SECONDS
    while (left := ends - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(request.receive(), left)
        except asyncio.TimeoutError:
            return
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if not message.get("more_body", False):
            return


def uploaded(content_type: str, content: bytearray) -> bytes:
    r"""Return the file in a multipart body that has one.

    Raises
    ------
    InputError
        If it has none, or several parts.

    Examples
    --------
    >>> body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n1 2 1\r\n--b--\r\n'
    >>> uploaded("multipart/form-data; boundary=b", bytearray(body))
    b'1 2 1'
    """
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary("")
    mark = b"--" + boundary.encode("latin-1", "replace")
    start = content.find(b"\r\n\r\n", 0, PART_HEADERS)
    end = content.rfind(b"\r\n" + mark + b"--")
    complete = boundary and content.startswith(mark + b"\r\n") and 0 < start < end
    if not complete or content.count(b"\r\n" + mark) != 1:
        raise InputError("expected one file as multipart/form-data; got something else")
    return bytes(memoryview(content)[start + 4 : end])
