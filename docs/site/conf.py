# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Sphinx' settings. The sources are put together by build.py beside this file; docs/*.md stay as they are."""

from __future__ import annotations

project = "vgpu.kvm"
author = "The vgpu.kvm authors"
project_copyright = "The vgpu.kvm authors. License: GPL-3.0-or-later; kernel modules of the twin: GPL-2.0-only"
language = "en"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
exclude_patterns = ["_*"]

# Links to headings, as a forge makes them: docs/secrets.md#secure-boot.
myst_heading_anchors = 3
smartquotes = False  # commands stand in sentences, too
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = "vgpu.kvm"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
antsibull_ext_color_scheme = "none"  # static/site.css has the colors
html_theme_options = {"navigation_with_keys": True}
html_favicon = "static/favicon.svg"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

# antsibull-docs refers to pages of Ansible's own documentation, which an offline build does not have.
nitpick_ignore_regex = [
    ("std:ref", r"(action_plugins|ansible_configuration_settings|common_return_values|list_of_collections|ansible_collections\.ansible\..*|.*_keyword)"),
]
