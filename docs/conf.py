"""How the documentation site is made: `make docs`. The pages are Markdown that reads as well without it."""

import re
from importlib.metadata import version as version_of

project = "subgrid"
author = "the authors of subgrid"
release = version = version_of("subgrid")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"subgrid {release}"

# Pages.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# The tutorial runs at every build; a failing cell fails the build.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

# The reference, from the docstrings.
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "code"


def absolute_values(app, what, name, obj, options, lines):
    """Docstrings write |x| as everyone does; reStructuredText would take it for a substitution."""
    del app, what, name, obj, options
    lines[:] = [re.sub(r"(``.*?``)|\|", lambda found: found[1] or r"\|", line) for line in lines]


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", absolute_values)
