# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Build for pip and for colcon (ament_python); the version is the one in package.xml.

The setuptools of the oldest supported distribution (59) has no recursive glob, so the list of data
files is made here. Requirements are ranges; the versions that are tested together are pinned in
requirements.txt. ROS packages are listed in package.xml, because PyPI has other names for them.
"""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

NAME = 'marigold_ros'
ROOT = Path(__file__).resolve().parent
SHARE = f'share/{NAME}'


def files_in(folder):
    """Return the files directly in a folder, relative to the root of the project."""
    return sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob('*') if path.is_file()
    )


def package_files():
    """Return the files of the package that are not Python, relative to it: checkpoints, page."""
    package = ROOT / NAME
    return sorted(
        path.relative_to(package).as_posix()
        for path in package.rglob('*')
        if path.is_file() and path.suffix not in ('.py', '.pyc')
    )


setup(
    name=NAME,
    version=ElementTree.parse(ROOT / 'package.xml').findtext('version'),
    description='Dense metric depth from one camera and sparse LiDAR, as a ROS 2 node and offline',
    author='The marigold_ros developers',
    license='Apache-2.0',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: package_files()},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (SHARE, ['package.xml']),
        (f'{SHARE}/launch', files_in('launch')),
        (f'{SHARE}/config', files_in('config')),
    ],
    python_requires='>=3.10',
    install_requires=[
        'accelerate>=1.0',
        'diffusers>=0.35',
        'huggingface_hub>=0.34',
        'numpy>=1.22',
        'opencv-python-headless>=4.5.4',
        'PyYAML>=5.4',
        'rosbags>=0.11',
        'safetensors>=0.4',
        'scipy>=1.8',
        'torch>=2.4',
        'tqdm>=4.60',
        'transformers>=4.45',
    ],
    extras_require={
        'openvino': ['openvino>=2024.4'],
        'onnx': ['onnx>=1.16', 'onnxruntime>=1.18'],
        'ray': ['ray>=2.9'],
        'rerun': ['rerun-sdk>=0.23'],
        'serve': ['starlette>=0.47', 'uvicorn>=0.30'],
        'training': ['h5py>=3.6', 'peft>=0.13', 'tensorboard>=2.9'],
        'wandb': ['wandb'],
        'docs': ['zensical'],
        'test': ['pytest', 'pytest-timeout', 'pytest-xdist', 'hypothesis', 'h5py>=3.6'],
    },
    entry_points={
        'console_scripts': [
            f'depth_node = {NAME}.__main__:depth_node',
            f'marigold = {NAME}.__main__:main',
        ]
    },
    zip_safe=False,
)
