"""Sphinx configuration. Build with `make docs`; the build needs no network."""

import os
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from jupyter_cache import get_cache

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "_extensions"))

project = "ppl_hmm"
author = "The ppl_hmm developers"
copyright = author
version = release = installed_version("ppl-hmm")

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas are read without a network, too
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "notebooks",  # of docs/_extensions
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
numfig = True

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Notebooks and executable pages run at build time, are cached, and stop the build when they raise.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of pages: their arrays are small, and threads would wait for each other

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Concentration", "Impossible", "Prompt", "Seed", "Text")}
autodoc_default_options = {
    "members": True,
    # Added to every estimator by scikit-learn; they link into its own manual.
    "exclude-members": "set_fit_request, set_predict_request, set_score_request, set_decision_function_request",
}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"ppl_hmm {release}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_sidebars = {page: [] for page in ("gallery", "install")}  # no pages stand below these
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
}


# Constants have no docstring of their own: autodoc would show that of their type.
CONSTANTS = {"ppl_hmm.MASK": "The token −1: nothing is observed where it stands."}


def _plain_docstring(*event):
    """Keep |margin|, P(h | x) and "K." as they are.

    Outside ``literals`` reStructuredText reads bars as substitutions, and a capital with a full stop as a list.
    """
    name, lines = event[2], event[-1]
    if name in CONSTANTS:
        lines[:] = [CONSTANTS[name], ""]
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        line = "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)
        lines[number] = re.sub(r"^(\s*)([A-Z]\.)", r"\1\\\2", line)


def _plain_signature(*event):
    """Show type aliases by their names alone."""
    return tuple(text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text) for text in event[-2:])


def _prepare_processes(app):
    """Let two processes read pages: each would create the tables of the cache of results."""
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True  # it copies files when all pages are written
    get_cache(Path(app.outdir).parent / ".jupyter_cache").list_cache_records()


def setup(app):
    """Register the filters, and prepare the cache."""
    app.connect("builder-inited", _prepare_processes)
    app.connect("autodoc-process-docstring", _plain_docstring)
    app.connect("autodoc-process-signature", _plain_signature)
