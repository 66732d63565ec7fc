"""Zip archives whose sizes are bounded before anything in them is unpacked."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import IO

__all__ = ["Archive", "ArchiveError"]

MOST_MEMBERS = 100_000
GROWTH, ALLOWED = (
    20,
    64 << 20,
)  # limits of unpacked bytes: a multiple of the file size, plus a constant
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1


class ArchiveError(Exception):
    """Error for archives with content that is never read; the message says what, and the remedy."""


class Archive:
    """Zip archive whose member names and sizes were checked.

    Parameters
    ----------
    file : path or binary file

    Raises
    ------
    ArchiveError
        If a name occurs twice or leaves the archive, a member is encrypted or compressed in
        another way than by deflate, or the members are larger together than a file of this size
        can reasonably hold.
    zipfile.BadZipFile, OSError
        If it is not a zip archive, or damaged.

    Notes
    -----
    Only this reader is used for an archive: two programs may find different members in one file.
    """

    def __init__(self, file: str | os.PathLike[str] | IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file)
        try:
            self._members = {info.filename: info for info in self._checked()}
        except BaseException:
            self._zip.close()
            raise

    def _checked(self) -> list[zipfile.ZipInfo]:
        found = self._zip.infolist()
        if len(found) > MOST_MEMBERS:
            raise ArchiveError(f"it has {len(found):,} members; expected at most {MOST_MEMBERS:,}")
        twice = [name for name, n in Counter(info.filename for info in found).items() if n > 1]
        if twice:
            raise ArchiveError(f"its member {twice[0]!r} occurs twice")
        for info in found:
            self._check_member(info)
        packed = sum(info.compress_size for info in found)
        size = self._size()
        if packed > size:
            raise ArchiveError(f"its members overlap: {packed:,} bytes in a file of {size:,}")
        unpacked = sum(info.file_size for info in found)
        if unpacked > GROWTH * size + ALLOWED:
            raise ArchiveError(
                f"it would unpack to {unpacked:,} bytes from {size:,}; expected at most "
                f"{GROWTH} times as many"
            )
        return found

    def _check_member(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
            raise ArchiveError(f"the name of its member {name!r} leads out of the archive")
        if info.flag_bits & ENCRYPTED:
            raise ArchiveError(f"its member {name!r} is encrypted")
        if info.compress_type not in METHODS:
            raise ArchiveError(
                f"its member {name!r} is compressed by method {info.compress_type}; expected none "
                "or deflate"
            )

    def _size(self) -> int:
        file = self._zip.fp
        assert file is not None
        at = file.tell()
        size = file.seek(0, os.SEEK_END)
        file.seek(at)
        return size

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Return a member's bytes.

        Raises
        ------
        ArchiveError
            If there is no such member, or it has more bytes than `most`.
        zipfile.BadZipFile
            If it is damaged: its checksum is compared.
        """
        info = self._members.get(name)
        if info is None:
            raise ArchiveError(f"it lacks the member {name!r}")
        if limit is not None and info.file_size > limit:
            raise ArchiveError(
                f"its member {name!r} has {info.file_size:,} bytes; expected at most {limit:,}"
            )
        return self._zip.read(info)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()
