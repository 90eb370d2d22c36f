# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The average of several models, whose disagreement states the uncertainty.

Begin with ``model.py``; ``merge.py`` is the mathematics and imports no torch.
"""
