# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The fusion network: gates the candidates of ``geometry.fusion`` and corrects their mixture."""
