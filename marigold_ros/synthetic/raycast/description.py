# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Description of a synthetic scene: solids, materials, lighting and cameras as plain arrays.

World frame of a scene: x right, y down, z forward, metres, the axes of an optical frame without
yaw and pitch. The floor or road is the plane y = 0, so a camera at height h sits at y = -h and
sees the ground at y = +h below itself. Every solid is a unit shape (cube, ball, cylinder, prism)
under a scale and a turn about the vertical: one kernel per shape, and ray parameters survive.
"""

from dataclasses import dataclass, field

import numpy as np

# Kinds of solids. A roller is a cylinder lying along x; a roof is a box whose upper face has
# shrunk to a ridge along z, a cabin one whose upper face is narrower in x by TAPER.
PLANE, SHELL, BOX, BALL, CYLINDER, ROLLER, ROOF, CABIN = range(8)
TAPER = {ROOF: 0.0, CABIN: 0.55}

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Solids:
    """
    The shapes of a scene, one row each.

    ``kind`` (P,), ``centre`` (P, 3) m, ``half`` (P, 3) half extents m, ``yaw`` (P,) rad about
    the vertical, ``material`` (P,) index into the materials: for a shell the first of six in a
    row, x-, x+, y-, y+, z-, z+.
    """

    kind: np.ndarray
    centre: np.ndarray
    half: np.ndarray
    yaw: np.ndarray
    material: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Materials:
    """
    Appearance per material, one row each.

    Colours are linear reflectances: ``colour_a``, ``colour_b`` (M, 3). ``texture`` (M,) is a row
    of `TEXTURES`, ``scale`` (M,) its period in metres, ``offset`` (M, 2) where it starts,
    ``contrast`` (M,) of the noise over it, ``gloss`` and ``glow`` (M,) highlight and emission,
    ``extra`` (M, 4) further numbers of a texture (lane widths of a road).
    """

    texture: np.ndarray
    colour_a: np.ndarray
    colour_b: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    contrast: np.ndarray
    gloss: np.ndarray
    glow: np.ndarray
    extra: np.ndarray


@dataclass(frozen=True)
class Lighting:
    """
    Lamps (or the sun), light from everywhere, sky and fog.

    ``position`` (L, 3) m, ``colour`` (L, 3), ``reach`` (L,) m at which a lamp has halved (inf for
    the sun), ``ambient_up`` and ``ambient_down`` (3,) light on faces looking up and down,
    ``zenith`` and ``horizon`` (3,) sky, ``clouds`` in [0, 1], ``fog`` 1/m. The first lamp may
    shine through windows of size ``panes`` m or leaves of size ``dapple`` m; 0 for none.
    """

    position: np.ndarray
    colour: np.ndarray
    reach: np.ndarray
    ambient_up: np.ndarray
    ambient_down: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float = 0.0
    fog: float = 0.0
    panes: float = 0.0
    dapple: float = 0.0


@dataclass(frozen=True)
class Scene:
    """
    One room or street: shapes, the role of each material, and appearance.

    ``extent`` (2, 3) is the box that cameras may stand in, ``focus`` a point worth a close-up,
    ``lane`` the (x, z_first, z_last) of a straight stretch free of obstacles (streets only),
    ``max_depth`` the z-depth beyond which a pixel counts as sky.
    """

    kind: str
    solids: Solids
    roles: tuple[str, ...]
    layout: np.ndarray
    materials: Materials
    lighting: Lighting
    extent: np.ndarray
    max_depth: float
    focus: np.ndarray | None = None
    lane: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class ViewCamera:
    """A pinhole camera in a scene: ``K`` (3, 3) px, ``T_world_cam`` (4, 4), image size in px."""

    K: np.ndarray
    T_world_cam: np.ndarray
    width: int
    height: int

    @property
    def centre(self) -> np.ndarray:
        """Position in the world, (3,) m."""
        return self.T_world_cam[:3, 3]

    def directions(self) -> np.ndarray:
        """Rays of all pixels, (3, H, W) float32 in the world, z = 1 in the camera frame."""
        x = (np.arange(self.width) - self.K[0, 2]) / self.K[0, 0]
        y = (np.arange(self.height) - self.K[1, 2]) / self.K[1, 1]
        rotation = self.T_world_cam[:3, :3]
        across = rotation[:, 0, None, None] * x[None, None, :]
        down = rotation[:, 1, None, None] * y[None, :, None]
        return (across + down + rotation[:, 2, None, None]).astype(np.float32)


@dataclass(frozen=True)
class Hits:
    """
    Surface points where rays end: ``t`` (N,) in lengths of the direction, inf for a miss.

    ``normal`` (N, 3) towards the origin's side, ``material`` (N,), -1 for a miss.
    """

    t: np.ndarray
    normal: np.ndarray
    material: np.ndarray


@dataclass(frozen=True)
class Geometry:
    """
    Depth, normals and materials of a scene in one camera's view, without colour.

    ``depth`` (H, W) float32 z in metres, inf for sky; ``normal`` (H, W, 3); ``material`` (H, W)
    int32, -1 for sky; ``uv`` (H, W, 2) m; ``facing`` (H, W) cosine between the normal and the way
    back to the camera.
    """

    camera: ViewCamera
    depth: np.ndarray
    normal: np.ndarray
    material: np.ndarray
    uv: np.ndarray
    facing: np.ndarray


@dataclass(frozen=True)
class Sample:
    """A training pair: ``rgb`` (H, W, 3) uint8, ``depth`` (H, W) float32 m with inf for sky."""

    rgb: np.ndarray
    depth: np.ndarray
    kind: str


@dataclass
class SolidList:
    """Solids, and the roles and layouts of their materials, collected while a scene is drawn."""

    rows: list[tuple[int, Triple, Triple, float, int]] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    layout: list[tuple[float, ...]] = field(default_factory=list)

    def material(self, role: str, layout: tuple[float, ...] = (0, 0, 0, 0)) -> int:
        """Reserve a material of a role and return its index."""
        self.roles.append(role)
        self.layout.append(layout)
        return len(self.roles) - 1

    def materials(self, *roles: str) -> tuple[int, ...]:
        """Reserve a material for each role and return their indices."""
        return tuple(self.material(role) for role in roles)

    def add(self, kind: int, centre: Triple, half: Triple, material: int, yaw: float = 0) -> None:
        """Add one solid."""
        self.rows.append((kind, centre, half, yaw, material))

    def solids(self) -> Solids:
        """Return the collected solids as arrays."""
        types = (np.int8, np.float64, np.float64, np.float64, np.int32)
        columns = zip(*self.rows, strict=True)
        return Solids(*(np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)))
