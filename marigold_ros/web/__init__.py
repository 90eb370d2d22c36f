# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The page of ``python -m marigold_ros serve``: photos, videos and bags in, depth and reports out.

Starlette and uvicorn, the extra ``serve``, are imported nowhere else.
"""
