# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The names and defaults that ``evaluate`` offers; without numpy, for the help of the command."""

# heldout: fitted to some scan lines, scored at the others; truth: fitted to all LiDAR points,
# scored at dense truth; oracle: fitted to the truth itself; raw: metres of a metric model.
PROTOCOLS = ('heldout', 'truth', 'oracle', 'raw')
HELD_OUT = ('rings', 'azimuth')  # what is kept together: scan lines, or degrees of azimuth
# Rules of the protocol oracle: the whole image, and as publications evaluate on their data.
OWN = 'own'
_PUBLISHED = ('kitti', 'kitti-garg', 'nyu', 'scannet', 'eth3d', 'diode')
ORACLES = (OWN, *(f'marigold-{name}' for name in _PUBLISHED))
# Denoising steps and members of publications, by their scripts: Marigold's paper (v1-0), its v1-1,
# E2E-FT; and the longest side at the networks on each data set, 0 native, which they share.
STEPS_AND_MEMBERS = {'marigold': (50, 10), 'marigold-v1-1': (1, 10), 'e2e': (1, 1)}
PUBLISHED_SIDES = {'nyu': 0, 'kitti': 0, 'eth3d': 756, 'scannet': 0, 'diode': 640}
PUBLISHED_SEED = 1234
# Each kind of corruption is a function of :mod:`marigold_ros.evaluation.corruptions`.
CORRUPTIONS = ('night', 'rain', 'fog', 'blur', 'noise', 'jpeg', 'glare', 'dropout')
STRENGTHS = (1, 2, 3, 4, 5)
USABLE_ERROR = 0.1  # mean relative error up to which the verdict calls depth usable
