"""HTML pages in one file, with style, charts, data and scripts."""

from __future__ import annotations

import base64
import html
import json
from importlib.resources import files
from typing import Any

from separable.pages.script_bundle import bundle

__all__ = ["asset", "page_in_one_file", "stand_alone"]

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
)


def asset(name: str) -> str:
    """Return the text of a shared file."""
    return files("separable.pages").joinpath("static", name).read_text("utf-8")


def stand_alone(title: str, body: str, data: Any, scripts: tuple[str, ...]) -> str:
    """Return a report that needs no other file and no network.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML in which all foreign text is escaped.
    data : JSON values
        Data of the page; scripts use them as ``DATA``.
    scripts : tuple of str
        Names of the scripts in their order; what they import is included.
    """
    body = f"""<main id="main">
{body}
</main>
<footer><p>Made by <code>separable</code>. This file contains everything it shows.</p></footer>"""
    return page_in_one_file(title, body, data, bundle(scripts, asset))


def page_in_one_file(title: str, body: str, data: Any, program: str) -> str:
    """Return a page with its style, data and script.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML of the whole body.
    data : JSON values
        Data of the page; the script uses them as ``DATA``.
    program : str
        Text of one module without imports.
    """
    icon = base64.b64encode(asset("icon.svg").encode()).decode()
    values = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
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
{body}
<script type="module">
const DATA = {values};
{program}
</script>
</body>
</html>
"""
