"""Codecs of Zarr: only those that decode numbers and are installed are used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from separable.errors import FileError

__all__ = ["check_codecs", "check_opened"]

NEW = "zarr 3: "  # prefix of codec names of Zarr 3, which differ from those of Zarr 2


def check_opened(where: Path, node: Any) -> None:
    """Check the codecs that zarr will use, from whichever metadata file it read them."""
    for codec in (*node.filters, *node.compressors, *_inner_codecs(node)):
        made = codec.get_config() if hasattr(codec, "get_config") else codec.to_dict()
        _check_trusted(where, str(made.get("id") or made.get("name")))


def _inner_codecs(node: Any) -> tuple[Any, ...]:
    """Return the codecs of Zarr 3, including those of chunks within shards."""
    found = list(getattr(node.metadata, "codecs", ()))
    for codec in found:
        found += [*getattr(codec, "codecs", ()), *getattr(codec, "index_codecs", ())]
    return tuple(found)


def _check_trusted(where: Path, codec: str) -> None:
    """Refuse codecs that decode objects, because they may execute what they decode."""
    name = codec.removeprefix(NEW)
    if name.removeprefix("numcodecs.") in NUMBERS or (
        name not in OBJECTS and any(name.startswith(start) for start, _ in PACKAGES)
    ):
        return
    raise FileError(
        f"cannot read {where}: its codec {name} decodes more than numbers, which is not safe. Store the "
        "array with another codec, such as blosc or zstd"
    )


def check_codecs(where: Path) -> None:
    """Refuse a codec that is not installed, which zarr would report only at the first chunk."""
    for codec in _codecs(where):
        if codec.removeprefix(NEW) in OBJECTS:  # before it is looked up
            _check_trusted(where, codec)
        if not _known(codec):
            codec = codec.removeprefix(NEW)
            package = next((p for start, p in PACKAGES if codec.startswith(start)), None)
            remedy = (
                f"Install it: pip install {package}"
                if package
                else ("Install the package that contains it, or store the array with another codec")
            )
            raise FileError(f"cannot read {where}: its codec {codec} is not installed. {remedy}")
        _check_trusted(where, codec)


# Codecs of numcodecs and zarr that map bytes to bytes or numbers to numbers, and those that create
# Python objects: `pickle` executes what the file says.
NUMBERS = frozenset((
    "adler32", "astype", "base64", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta",
    "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits",
    "pcodec", "quantize", "shuffle", "zfpy", "zlib", "zstd",
    "bytes", "endian", "transpose", "sharding_indexed", "cast_value", "scale_offset",
))  # fmt: skip
OBJECTS = frozenset((
    "pickle", "json2", "msgpack2", "categorize", "vlen-utf8", "vlen-bytes", "vlen-array",
    "vlen-string",
))  # fmt: skip

PACKAGES = (
    ("imagecodecs", "imagecodecs"),
    ("blosc2", "blosc2"),
    ("zfpy", '"numcodecs[zfpy]"'),
    ("pcodec", '"numcodecs[pcodec]"'),
    ("crc32c", '"numcodecs[crc32c]"'),
    ("msgpack2", '"numcodecs[msgpack]"'),
    ("numcodecs.", '"zarr[numcodecs]"'),
    ("bitshuffle", "bitshuffle"),
    ("wavpack", "wavpack-numcodecs"),
    ("flac", "flac-numcodecs"),
)


def _codecs(where: Path) -> Iterator[str]:
    old, new = where / ".zarray", where / "zarr.json"
    if old.is_file():
        meta = json.loads(old.read_bytes())
        for codec in (meta.get("compressor"), *(meta.get("filters") or ())):
            if codec:
                yield str(codec["id"])
    if new.is_file():
        yield from _codecs_3(json.loads(new.read_bytes()).get("codecs") or ())


def _codecs_3(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        name = codec if isinstance(codec, str) else str(codec["name"])
        yield NEW + name
        if name == "sharding_indexed":
            yield from _codecs_3(codec["configuration"]["codecs"])


def _known(codec: str) -> bool:
    if not codec.startswith(NEW):
        from numcodecs.registry import get_codec  # optional

        try:
            get_codec({"id": codec})
        except ValueError:
            return False
        except TypeError:  # it is installed, and its options are missing
            return True
        return True
    from zarr.registry import get_codec_class  # optional

    try:
        get_codec_class(codec.removeprefix(NEW))
    except Exception:
        return False
    return True
