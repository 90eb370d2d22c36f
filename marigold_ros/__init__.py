# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers

"""Monocular metric depth for ROS 2: a latent-diffusion model put into metres by sparse LiDAR."""
