"""Join scripts that import each other into one, for pages that load no other file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

__all__ = ["bundle"]

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) (\w+))", re.MULTILINE)


def bundle(
    entries: Sequence[str], read: Callable[[str], str], replaced: Mapping[str, str] | None = None
) -> str:
    r"""Return one script that runs some modules, and before them those that they import.

    Browsers load no modules from a page that was opened from disk, so each module becomes a function
    that returns what it exports. Modules import only names in braces from their own folder.

    Parameters
    ----------
    entries : sequence of str
        File names of the modules, in the order in which they run.
    read : callable
        Returns the text of a module by its file name.
    replaced : mapping of str to str, optional
        File names of modules to take instead of others, which export the same names.

    Examples
    --------
    >>> modules = {"a.js": 'import { b } from "./b.js";\nb();\n', "b.js": "export const b = () => 1;\n"}
    >>> print(bundle(["a.js"], modules.__getitem__))
    const M = {};
    M["b.js"] = await (async () => {
    const b = () => 1;
    return { b };
    })();
    M["a.js"] = await (async () => {
    const { b } = M["b.js"];
    b();
    return {  };
    })();
    """
    parts: dict[str, str] = {}

    def add(asked: str) -> None:
        name = (replaced or {}).get(asked, asked)
        if name in parts:
            return
        text = read(name)
        for _, other in IMPORT.findall(text):
            add(other)
        exported = EXPORT.findall(text)
        text = IMPORT.sub(_taken(replaced or {}), text)
        text = EXPORT.sub("", text)
        parts[name] = (
            f'M["{name}"] = await (async () => {{\n{text}return {{ {", ".join(exported)} }};\n}})();'
        )

    for entry in entries:
        add(entry)
    return "\n".join(["const M = {};", *parts.values()])


def _taken(replaced: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    """Return what stands in the place of an import."""

    def line(found: re.Match[str]) -> str:
        names, module = found[1].replace(" as ", ": "), replaced.get(found[2], found[2])
        return f'const {{{names}}} = M["{module}"];\n'

    return line
