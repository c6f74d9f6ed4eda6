"""The documentation site: ``make docs`` builds it from these pages and the docstrings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package beside these pages

import digitlib

project, version = "digitlib", digitlib.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
html_theme, html_title = "furo", f"digitlib {version}"
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 3  # headings can be linked to as on GitHub
autodoc_typehints = "none"  # the docstrings say types, and shapes with them
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_param = napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_default_options = {"exclude-members": "set_fit_request, set_score_request"}
