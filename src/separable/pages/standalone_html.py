"""One file that holds a page whole: style, charts, data, and the script that draws them."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import Any

from separable.pages.assets import part

__all__ = ["stand_alone"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def stand_alone(title: str, body: str, data: Any, scripts: tuple[str, ...]) -> str:
    """Return a page that needs no other file and no network.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML; what comes from outside must have been escaped.
    data : JSON values
        The script finds them as ``DATA``.
    scripts : tuple of str
        Names of the parts that draw, in their order; ``charts.js`` goes before them.
    """
    icon = base64.b64encode(part("icon.svg").encode()).decode()
    values = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    program = "\n".join(_plain(part(name)) for name in ("charts.js", *scripts))
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
{part("page.css")}</style>
</head>
<body>
<main id="main">
{body}
</main>
<footer><p>Made by <code>separable</code>. This file holds everything it shows.</p></footer>
<script type="module">
const DATA = {values};
{program}</script>
</body>
</html>
"""


def _plain(script: str) -> str:
    """A module's text for one script: all parts stand together, none is imported."""
    script = re.sub(r"^import .*?;\n", "", script, flags=re.MULTILINE)
    return re.sub(r"^export ", "", script, flags=re.MULTILINE)
