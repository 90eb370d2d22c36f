# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Bags through the pipeline without ROS: scored, recorded or labelled, in processes or on Ray.

`replay_plan` states what is replayed, `bag_replay` scores one bag into a `BagPart`, an executor
runs many, and `evaluate_bags` adds them up.
"""
