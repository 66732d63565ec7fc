"""Read request bodies with limits on their total size and on the time they take."""

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
    QUESTION_BYTES,
    STALLED_SECONDS,
    UPLOADS_AT_ONCE,
    InputError,
)

__all__ = ["Bodies", "RefusedError", "uploaded"]

PART_HEADERS = 8 << 10  # bytes before the file in a multipart body
BUSY = "too many uploads at once. Try again in a few seconds"


class RefusedError(InputError):
    """A request body that is refused; `status` is the HTTP status of the answer."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Bodies:
    """Account of all request bodies that are being read or worked on.

    Attributes
    ----------
    held : int
        Bytes in memory, at most `limits.BODIES_BYTES`.
    uploads : int
        Number of uploads that are being read or worked on.
    """

    def __init__(self) -> None:
        self.held = 0
        self.uploads = 0

    @contextlib.asynccontextmanager
    async def of(
        self, request: Request, max_bytes: int, *, upload: bool
    ) -> AsyncIterator[bytearray]:
        """Read a body; its bytes count until the work with it is done, when the context ends.

        Parameters
        ----------
        request : Request
        max_bytes : int
            Largest size of this body.
        upload : bool
            Whether it counts as an upload, of which few are read at once.

        Raises
        ------
        RefusedError
            With status 413 if the body is too large, 429 if all bodies together are, 408 if it
            arrives too slowly.
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
                await self._fill(content, request, max_bytes, upload=upload)
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

    async def _fill(
        self, content: bytearray, request: Request, max_bytes: int, *, upload: bool
    ) -> None:
        together = BODIES_BYTES - QUESTION_BYTES if upload else BODIES_BYTES
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > max_bytes:
            raise RefusedError(f"too large: at most {max_bytes >> 20} MiB are accepted", 413)
        deadline = time.monotonic() + BODY_SECONDS
        while True:
            left = min(STALLED_SECONDS, deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(request.receive(), max(left, 0.001))
            except asyncio.TimeoutError:
                raise RefusedError("the upload was too slow. Try again", 408) from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part = message.get("body", b"")
            if len(content) + len(part) > max_bytes:
                raise RefusedError(f"too large: at most {max_bytes >> 20} MiB are accepted", 413)
            if self.held + len(part) > together:
                raise RefusedError(BUSY, 429)
            content += part
            self.held += len(part)
            if not message.get("more_body", False):
                return


async def _drain(request: Request) -> None:
    """Discard the rest of a body for a while: a client that still sends does not read the answer."""
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
    r"""Return the file of a multipart body.

    Raises
    ------
    InputError
        If the body has no file, or several parts.

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
