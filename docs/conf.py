"""How the site is built: `make site`, into runs/site. Nothing on it asks the network for anything.

What can rot is made here from the code itself: the commands from their parsers, the columns from their schemas, the
figures and outputs by running the pages (MyST-NB).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nestobs

HERE = Path(__file__).parent
PATHS = [str(HERE / "_ext"), str(HERE.parent / "tests")]  # the method's rows by hand are those of the tests
sys.path[:0] = PATHS
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*PATHS, os.environ.get("PYTHONPATH", "")]))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}

project = "nestobs"
author = "the authors of nestobs"
copyright = "MIT licence"
version = release = nestobs.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "nestobs_site"]
exclude_patterns = ["_*", "examples"]
html_title = f"nestobs {release}"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # a busy machine needs minutes where a quick one needs seconds
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # its default loads two scripts from other hosts
nb_output_stderr = "remove-warn"
nb_merge_streams = True

smartquotes = False  # it would make a dash of the two before a flag
default_role = "literal"  # docstrings write code between single backticks
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
add_module_names = False
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!nestobs\.).*")]  # others' documentation is not here, nor asked for

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_favicon = "_static/nest.svg"
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "nestobs"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
}
html_sidebars = {"index": [], "start/*": [], "method/*": []}
