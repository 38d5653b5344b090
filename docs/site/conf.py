# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Settings of Sphinx. build.py in this directory assembles the sources; it does not change docs/*.md."""

from __future__ import annotations

project = "vgpu.kvm"
author = "The vgpu.kvm authors"
project_copyright = "The vgpu.kvm authors. License: GPL-3.0-or-later; kernel modules of the twin: GPL-2.0-only"
language = "en"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
exclude_patterns = ["_*"]

# Anchors of headings as GitHub generates them, such as docs/secrets.md#secure-boot.
myst_heading_anchors = 3
smartquotes = False  # Sentences contain commands, whose quotes must not change.
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = "vgpu.kvm"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
antsibull_ext_color_scheme = "none"  # static/site.css sets the colors.
html_theme_options = {"navigation_with_keys": True}
html_favicon = "static/favicon.svg"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

# antsibull-docs links to pages of Ansible's own documentation, which an offline build does not have.
nitpick_ignore_regex = [
    ("std:ref", r"(action_plugins|ansible_configuration_settings|common_return_values|list_of_collections|ansible_collections\.ansible\..*|.*_keyword)"),
]
