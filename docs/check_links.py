"""Check the built pages: every internal link has a target, and nothing is loaded from other servers.

python docs/check_links.py docs/_build/html
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
SILENT = {"canonical", "search", "next", "prev", "index", "author"}  # links that load nothing


class Page(HTMLParser):
    """Links of a page, the targets that links can have, and the files that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the links and targets of an element."""
        found = {name: value or "" for name, value in attrs}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        for name in ("href", "src"):
            if name not in found:
                continue
            self.links.append(found[name])
            if (tag, name) in LOADED and found.get("rel") not in SILENT:
                self.loaded.append(found[name])


def problems(folder: Path) -> list[str]:
    """Return one line per wrong link.

    Parameters
    ----------
    folder : Path
        Folder of the built pages.
    """
    files = [p for p in sorted(folder.rglob("*.html")) if "_static" not in p.parts]
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in files}
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        outside = (x for x in dict.fromkeys(page.loaded) if urlsplit(x).netloc)
        found += [f"{name}: loads {link}" for link in outside]
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                found.append(f"{name}: there is no {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in (
                pages[target].places | {"top"}
            ):  # fmt: skip
                found.append(f"{name}: there is no place {link}")
    return found


def main() -> None:
    """Print the wrong links and exit with status 1, or print the number of correct pages."""
    folder = Path(sys.argv[1])
    found = problems(folder)
    if found or not folder.is_dir():
        print("\n".join(found or [f"there are no pages in {folder}"]))
        raise SystemExit(1)
    print(
        f"{len(list(folder.rglob('*.html')))} pages: all links have targets, nothing is loaded from other servers"
    )


if __name__ == "__main__":
    main()
