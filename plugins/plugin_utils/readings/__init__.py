# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tasks registered on hosts, for report and verdict alike.

``reading`` takes values out of results that may lack anything, ``problems`` makes rows of what is wrong, ``words`` spells sizes and users.
"""
