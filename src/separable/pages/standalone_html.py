"""HTML pages in one file, with style, charts, data and scripts."""

from __future__ import annotations

import base64
import html
import json
import re
from importlib.resources import files
from typing import Any

__all__ = ["asset", "stand_alone"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def asset(name: str) -> str:
    """Return the text of a shared file."""
    return files("separable.pages").joinpath("static", name).read_text("utf-8")


def stand_alone(title: str, body: str, data: Any, scripts: tuple[str, ...]) -> str:
    """Return a page that needs no other file and no network.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML in which all foreign text is escaped.
    data : JSON values
        Data of the page; scripts use them as ``DATA``.
    scripts : tuple of str
        Names of the scripts in their order; ``charts.js`` is included before them.
    """
    icon = base64.b64encode(asset("icon.svg").encode()).decode()
    values = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    program = "\n".join(_plain(asset(name)) for name in ("charts.js", *scripts))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="generator" content="separable">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:image/svg+xml;base64,{icon}">
<style>
{asset("page.css")}</style>
</head>
<body>
<main id="main">
{body}
</main>
<footer><p>Made by <code>separable</code>. This file contains everything it shows.</p></footer>
<script type="module">
const DATA = {values};
{program}</script>
</body>
</html>
"""


def _plain(script: str) -> str:
    """Return a script without imports and exports, because all scripts are joined into one."""
    script = re.sub(r"^import .*?;\n", "", script, flags=re.MULTILINE)
    return re.sub(r"^export ", "", script, flags=re.MULTILINE)
