# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Commands of ``python -m marigold_ros``: modules with ``add_arguments`` and ``run``."""
