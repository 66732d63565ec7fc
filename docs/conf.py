"""Configuration of the documentation, which `make docs` builds without a network connection."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import separable

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from reference import write_reference  # noqa: E402

from separable.explore import write_static  # noqa: E402

write_reference(HERE / "api")
write_static(HERE / "page_built" / "explore", overwrite=True)

project = "separable"
author = "The separable developers"
copyright = "2026, the separable developers"
release = version = separable.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "page_built", "lessons/README.rst", "**/*.ipynb"]
nitpicky = False
suppress_warnings = [
    "config.cache",  # sphinx-gallery's arguments are a function, which cannot be cached
    "myst.header",  # tables written by a program start with a heading of a lower level
]

# Pages are written in Markdown; every heading can be linked to.
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

# The reference is made from the docstrings.
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc shows the types
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False

# Every file is in this folder: no fonts, scripts or counters are loaded from other servers.
html_theme = "pydata_sphinx_theme"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_extra_path = ["page_built"]  # the page of `separable explore --static`, which explore.md shows
html_css_files = ["separable.css"]
html_title = "separable"
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {page.stem: [] for page in HERE.glob("*.md")}  # these pages have no subpages
html_theme_options = {
    "logo": {"text": "separable"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "use_edit_page_button": False,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}


# "1 %" and "4.2 M" are one word: no line ends before the sign or the unit.
QUANTITY = re.compile(r"(\d) (%|[kMGT]\b|[kKMGT]?i?B\b|[nµum]?s\b|mm\b|px\b|pJ\b)")


def _keep_quantities(_app: object, document: object, _name: str) -> None:
    """Join numbers and their signs or units by a space at which no line ends."""
    from docutils import nodes

    assert isinstance(document, nodes.document)
    for text in list(document.findall(nodes.Text)):
        joined = QUANTITY.sub("\\1\u00a0\\2", text)
        if joined != text and not isinstance(text.parent, (nodes.literal, nodes.literal_block)):
            text.parent.replace(text, nodes.Text(joined))


def setup(app: Any) -> None:
    """Connect the function that keeps quantities in one line."""
    app.connect("doctree-resolved", _keep_quantities)


# The lessons are run; with LESSONS=short in the short form.
def _arguments(gallery: object, script: object) -> list[str]:
    """Return the command line arguments of each lesson."""
    return ["--short"] if os.environ.get("LESSONS") == "short" else []


sphinx_gallery_conf = {
    "examples_dirs": ["lessons"],
    "gallery_dirs": ["lessons_built"],
    "filename_pattern": r"lesson_\d\d_",
    "ignore_pattern": r"(__init__|_common)\.py",
    "within_subsection_order": "FileNameSortKey",
    "reset_argv": _arguments,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 0,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "image_scrapers": ("matplotlib",),
    "thumbnail_size": (640, 448),  # so that labels can be read where the browser makes them smaller
    "matplotlib_animations": False,
    "notebook_images": False,
    "run_stale_examples": True,  # otherwise pages of the short form would remain in a full build
    "write_computation_times": False,  # that page loads a script from another server
    "capture_repr": (),  # lessons print what they show
}
