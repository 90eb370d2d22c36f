# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""PLY and GLB files, read back by their own headers."""

from dataclasses import replace
import json
import struct

import cv2
from marigold_ros.errors import InputError, MarigoldError
from marigold_ros.geometry.cloud.files import write_glb, write_ply
from marigold_ros.geometry.cloud.mesh import Mesh
import numpy as np
import pytest

TYPES = {'float': '<f4', 'uchar': 'u1'}


def read_ply(path):
    """Read vertices as the header describes them."""
    head, _, body = path.read_bytes().partition(b'end_header\n')
    lines = head.decode('ascii').splitlines()
    assert lines[:2] == ['ply', 'format binary_little_endian 1.0']
    count = int(lines[2].removeprefix('element vertex '))
    properties = [line.split()[1:] for line in lines[3:]]
    dtype = np.dtype([(name, TYPES[kind]) for kind, name in properties])
    assert len(body) == count * dtype.itemsize
    return np.frombuffer(body, dtype)


def test_points_and_colours_come_back(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 7, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert write_ply(tmp_path / 'cloud.ply', points, rgb) == 35
    vertices = read_ply(tmp_path / 'cloud.ply')
    for index, (axis, colour) in enumerate(zip('xyz', ('red', 'green', 'blue'), strict=True)):
        np.testing.assert_array_equal(vertices[axis], points[..., index].ravel())
        np.testing.assert_array_equal(vertices[colour], rgb[..., index].ravel())


def test_points_that_are_not_finite_are_left_out(tmp_path):
    points = np.array([[1, 2, 3], [np.nan, 0, 1], [0, np.inf, 1], [4, 5, 6]], np.float32)
    assert write_ply(tmp_path / 'cloud.ply', points, np.zeros((4, 3), np.uint8)) == 2
    np.testing.assert_array_equal(read_ply(tmp_path / 'cloud.ply')['z'], [3, 6])


def test_an_empty_cloud_is_a_file_as_well(tmp_path):
    assert write_ply(tmp_path / 'cloud.ply', np.zeros((0, 3)), np.zeros((0, 3), np.uint8)) == 0
    assert len(read_ply(tmp_path / 'cloud.ply')) == 0


def test_shapes_that_disagree_are_refused(tmp_path):
    with pytest.raises(InputError, match=r'\(4, 3\)'):
        write_ply(tmp_path / 'cloud.ply', np.zeros((4, 3)), np.zeros((5, 3), np.uint8))


def test_comments_stand_in_the_header(tmp_path):
    path = tmp_path / 'cloud.ply'
    write_ply(path, np.zeros((1, 3)), np.zeros((1, 3), np.uint8), ['no unit'])
    assert path.read_bytes().splitlines()[2] == b'comment no unit'


SIZES = {5125: ('<u4', 4), 5126: ('<f4', 4)}
WIDTHS = {'SCALAR': 1, 'VEC2': 2, 'VEC3': 3}


def read_glb(path):
    """Read the arrays of the only mesh, checking what glTF 2.0 demands of the bytes."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from('<4sII', data)
    assert (magic, version, length) == (b'glTF', 2, len(data))
    size, kind = struct.unpack_from('<I4s', data, 12)
    assert (kind, size % 4) == (b'JSON', 0)
    content = json.loads(data[20 : 20 + size])
    held, kind = struct.unpack_from('<I4s', data, 20 + size)
    assert (kind, held % 4) == (b'BIN\0', 0)
    body = data[28 + size :]
    assert len(body) == held
    assert content['buffers'][0]['byteLength'] <= held
    node = content['nodes'][content['scenes'][content['scene']]['nodes'][0]]
    (primitive,) = content['meshes'][node['mesh']]['primitives']
    arrays = []
    for which in (*primitive['attributes'].values(), primitive['indices']):
        accessor = content['accessors'][which]
        view = content['bufferViews'][accessor['bufferView']]
        dtype, itemsize = SIZES[accessor['componentType']]
        width = WIDTHS[accessor['type']]
        assert view['byteOffset'] % itemsize == 0
        assert view['byteLength'] == accessor['count'] * width * itemsize
        part = body[view['byteOffset'] : view['byteOffset'] + view['byteLength']]
        arrays.append(np.frombuffer(part, dtype).reshape(-1, width))
    colour = content['materials'][primitive['material']]['pbrMetallicRoughness']
    texture = content['textures'][colour['baseColorTexture']['index']]
    view = content['bufferViews'][content['images'][texture['source']]['bufferView']]
    coded = body[view['byteOffset'] : view['byteOffset'] + view['byteLength']]
    return content, arrays, cv2.imdecode(np.frombuffer(coded, np.uint8), -1)[..., ::-1]


MESH = Mesh(
    np.float32([[0, 0, 2], [1, 0, 2], [0, 1, 2], [1, 1, 3]]),
    np.array([[0, 0], [6, 0], [0, 4], [6, 4]]),
    np.array([[0, 2, 1], [1, 2, 3]]),
    np.repeat(np.repeat(np.uint8([[[200, 30, 30]], [[30, 30, 200]]]), 8, axis=1), 4, axis=0),
)


def test_a_mesh_comes_back_from_glb_with_the_axes_of_gltf(tmp_path):
    write_glb(tmp_path / 'mesh.glb', MESH, 'no unit')
    content, (positions, places, indices), photo = read_glb(tmp_path / 'mesh.glb')
    assert content['asset']['version'] == '2.0'
    assert content['asset']['extras']['note'] == 'no unit'
    np.testing.assert_array_equal(positions, MESH.points * [1, -1, -1])
    assert content['accessors'][0]['min'] == positions.min(0).tolist()
    assert content['accessors'][0]['max'] == positions.max(0).tolist()
    np.testing.assert_array_equal(indices.reshape(-1, 3), MESH.faces)
    # The whole photo is the texture, and each point lies at the centre of its pixel.
    assert photo.shape == MESH.photo.shape
    assert np.abs(photo.astype(int) - MESH.photo)[[0, -1]].max() < 12
    np.testing.assert_allclose(places * [8, 8], MESH.pixels + 0.5)


def test_a_mesh_without_triangles_is_refused(tmp_path):
    empty = replace(MESH, faces=np.zeros((0, 3), int))
    with pytest.raises(InputError, match='no triangle'):
        write_glb(tmp_path / 'mesh.glb', empty)


@pytest.mark.parametrize(
    'write',
    [
        lambda path: write_ply(path, np.zeros((100, 3)), np.zeros((100, 3), np.uint8)),
        lambda path: write_glb(path, MESH),
    ],
    ids=['ply', 'glb'],
)
def test_on_a_full_disk_one_sentence_says_so_and_the_earlier_file_stays(
    tmp_path, write, full_disk
):
    (tmp_path / 'photo').write_bytes(b'earlier')
    words = 'could not be written .*free some space'
    with full_disk(700), pytest.raises(MarigoldError, match=words):
        write(tmp_path / 'photo')
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b'earlier']
