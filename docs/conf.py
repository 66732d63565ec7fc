"""How the documentation is built: `make docs`, without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import separable

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from reference import write_reference  # noqa: E402

write_reference(HERE / "api")

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
exclude_patterns = ["_build", "lessons/README.rst", "**/*.ipynb"]
nitpicky = False
suppress_warnings = [
    "config.cache",  # of the gallery, whose arguments are a function
    "myst.header",  # the tables that a program writes begin below their page's heading
]

# Pages are written in Markdown; every heading can be linked to.
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

# The reference comes from the docstrings.
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc shows the types in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False

# Every file comes from this folder: no fonts, scripts or counters from elsewhere.
html_theme = "pydata_sphinx_theme"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["separable.css"]
html_title = "separable"
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {page.stem: [] for page in HERE.glob("*.md")}  # they have no pages below them
html_theme_options = {
    "logo": {"text": "separable"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "use_edit_page_button": False,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}


# The lessons are run, with LESSONS=short in the short form that CI takes.
def _arguments(gallery: object, script: object) -> list[str]:
    """Each lesson is run with these arguments."""
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
    "matplotlib_animations": False,
    "notebook_images": False,
    "run_stale_examples": True,  # or pages of the short form would stay in a full build
    "write_computation_times": False,  # that page loads its table's script from elsewhere
    "capture_repr": (),  # what a lesson shows it prints
}
