# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Coloured points as PLY files, and meshes with their photo as glTF 2.0 binary files (GLB)."""

from collections.abc import Sequence
import json
from pathlib import Path
import struct
from typing import Any

import cv2
from marigold_ros.errors import InputError
from marigold_ros.geometry.cloud.mesh import Mesh
from marigold_ros.whole_files import write_whole
import numpy as np

_COLOURS = ('red', 'green', 'blue')
_VERTEX = np.dtype([*((axis, '<f4') for axis in 'xyz'), *((colour, 'u1') for colour in _COLOURS)])
# glTF 2.0: chunk types, component types, targets of buffer views.
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_UNSIGNED_INT, _FLOAT = 5125, 5126
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_CLAMP_TO_EDGE = 33071
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 92)


def write_ply(
    path: str | Path, points: np.ndarray, rgb: np.ndarray, comments: Sequence[str] = ()
) -> int:
    """
    Write points with colours as a binary little-endian PLY file, which is replaced.

    Of ``points`` (..., 3), metres, with colours ``rgb`` (..., 3) uint8, those that are not finite
    are left out; returns the number written. ``comments`` are lines of ASCII for the header.
    Raises InputError if the shapes differ or are others, and MarigoldError if the file cannot be
    written, as on a full disk.
    """
    points, rgb = np.asarray(points), np.asarray(rgb)
    if points.shape != rgb.shape or points.ndim < 2 or points.shape[-1] != 3:
        raise InputError(
            f'points are {points.shape}, colours {rgb.shape}; give (..., 3) of both', 'shape'
        )
    points, rgb = points.reshape(-1, 3), rgb.reshape(-1, 3)
    valid = np.isfinite(points).all(axis=1)
    vertices = np.empty(int(valid.sum()), _VERTEX)
    for index, (axis, colour) in enumerate(zip('xyz', _COLOURS, strict=True)):
        vertices[axis], vertices[colour] = points[valid, index], rgb[valid, index]
    header = ['ply', 'format binary_little_endian 1.0']
    header += [f'comment {line}' for line in comments]
    header += [f'element vertex {len(vertices)}']
    header += [f'property float {axis}' for axis in 'xyz']
    header += [f'property uchar {colour}' for colour in _COLOURS]
    header += ['end_header', '']
    write_whole(Path(path), '\n'.join(header).encode('ascii') + vertices.tobytes())
    return len(vertices)


def write_glb(path: str | Path, mesh: Mesh, note: str = '') -> None:
    """
    Write a mesh with its photo as texture as a glTF 2.0 binary file; it is replaced.

    The axes become those of glTF, x right, y up, z towards the viewer. Viewers that know the
    extension KHR_materials_unlit show the colours of the photo as they are. ``note`` is kept as an
    extra of the asset. Raises InputError for a mesh without triangles, which glTF does not allow,
    and MarigoldError if the file cannot be written, as on a full disk.
    """
    if not len(mesh.faces):
        raise InputError('the mesh has no triangle; there is no depth, or it is steep everywhere')
    positions = mesh.upright.astype('<f4')
    size = np.array(mesh.photo.shape[1::-1])
    places = ((mesh.pixels + 0.5) / size).astype('<f4')  # (0, 0) is the photo's upper left corner
    image = cv2.imencode('.jpg', mesh.photo[..., ::-1], _JPEG)[1].tobytes()
    parts = positions.tobytes(), places.tobytes(), mesh.faces.astype('<u4').tobytes(), image
    targets = _ARRAY_BUFFER, _ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER, None
    views, start = [], 0
    for part, target in zip(parts, targets, strict=True):
        view = {'buffer': 0, 'byteOffset': start, 'byteLength': len(part)}
        views.append(view if target is None else {**view, 'target': target})
        start += len(part)
    count = len(positions)
    positions_facts = {'min': positions.min(0).tolist(), 'max': positions.max(0).tolist()}
    content: dict[str, Any] = {
        'asset': {'version': '2.0', 'generator': 'marigold_ros', 'extras': {'note': note}},
        'extensionsUsed': ['KHR_materials_unlit'],
        'scene': 0,
        'scenes': [{'nodes': [0]}],
        'nodes': [{'mesh': 0}],
        'meshes': [
            {
                'primitives': [
                    {'attributes': {'POSITION': 0, 'TEXCOORD_0': 1}, 'indices': 2, 'material': 0}
                ]
            }
        ],
        'materials': [
            {
                'doubleSided': True,
                'pbrMetallicRoughness': {
                    'baseColorTexture': {'index': 0},
                    'metallicFactor': 0.0,
                    'roughnessFactor': 1.0,
                },
                'extensions': {'KHR_materials_unlit': {}},
            }
        ],
        'textures': [{'sampler': 0, 'source': 0}],
        'samplers': [{'wrapS': _CLAMP_TO_EDGE, 'wrapT': _CLAMP_TO_EDGE}],
        'images': [{'bufferView': 3, 'mimeType': 'image/jpeg'}],
        'accessors': [
            {**_accessor(0, _FLOAT, 'VEC3', count), **positions_facts},
            _accessor(1, _FLOAT, 'VEC2', count),
            _accessor(2, _UNSIGNED_INT, 'SCALAR', mesh.faces.size),
        ],
        'bufferViews': views,
        'buffers': [{'byteLength': start}],
    }
    text = json.dumps(content, allow_nan=False).encode('ascii')
    chunks = _chunk(_JSON_CHUNK, text, b' ') + _chunk(_BINARY_CHUNK, b''.join(parts), b'\0')
    header = struct.pack('<4sII', b'glTF', 2, 12 + len(chunks))
    write_whole(Path(path), header + chunks)


def _accessor(view: int, component: int, kind: str, count: int) -> dict[str, Any]:
    return {'bufferView': view, 'componentType': component, 'type': kind, 'count': count}


def _chunk(kind: int, data: bytes, fill: bytes) -> bytes:
    data += fill * (-len(data) % 4)
    return struct.pack('<II', len(data), kind) + data
