# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Build for pip and for colcon (ament_python); the version is the one in package.xml.

It installs two packages: marigold_ros, which a robot runs, and marigold_training, which lies in
training/. MARIGOLD_ROBOT_ONLY=1 leaves the second one out.

The setuptools of the oldest supported distribution (59) has no recursive glob, so the list of data
files is made here. Requirements are ranges up to the next major version; the versions that are
tested together are pinned in requirements.txt. ROS packages are listed in package.xml, because
PyPI has other names for them.
"""

import os
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup
from setuptools.command.develop import develop

NAME = 'marigold_ros'
TRAINING = 'marigold_training'
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
        if path.is_file() and path.suffix != '.py' and path.parent.name != '__pycache__'
    )


class Develop(develop):
    """
    Let `colcon build --symlink-install` find the training package.

    It links setup.py and both packages into a build folder, puts that one folder on the path, and
    runs this command there; the training package lies below it, where nothing would look.
    """

    def run(self):
        inside = Path('training', TRAINING)
        if inside.is_symlink() and not Path(TRAINING).exists():
            Path(TRAINING).symlink_to(inside)
        super().run()


with_training = not os.environ.get('MARIGOLD_ROBOT_ONLY')
training_packages = find_packages('training', include=[TRAINING, f'{TRAINING}.*'])

setup(
    name=NAME,
    version=ElementTree.parse(ROOT / 'package.xml').findtext('version'),
    description='Dense metric depth from one camera and sparse LiDAR, as a ROS 2 node and offline',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The marigold_ros developers',
    license='Apache-2.0',
    keywords='ROS 2, monocular depth, LiDAR, depth completion, Marigold, diffusion',
    classifiers=[
        'Development Status :: 5 - Production/Stable',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Processing',
    ],
    packages=[
        *find_packages(include=[NAME, f'{NAME}.*']),
        *(training_packages if with_training else ()),
    ],
    package_dir={TRAINING: f'training/{TRAINING}'} if with_training else {},
    cmdclass={'develop': Develop},
    package_data={NAME: package_files()},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (SHARE, ['package.xml']),
        (f'{SHARE}/launch', files_in('launch')),
        (f'{SHARE}/config', files_in('config')),
    ],
    python_requires='>=3.10',
    install_requires=[
        'accelerate>=1.0,<2',
        'diffusers>=0.35,<1',
        'huggingface_hub>=1.0,<3',
        'numba>=0.60,<1',
        'numpy>=1.22,<3',
        'opencv-python-headless>=4.5.4,!=4.5.5.*,<6',  # 4.5.5: connectedComponents crashes
        'Pillow>=9.0,<14',
        'PyYAML>=5.4,<7',
        'rosbags>=0.11.7,<0.12',  # its readers are replaced in marigold_ros/bags/guarded.py
        'apsw>=3.40,!=3.54.0.0,<4',  # of rosbags, bounded there; 3.54.0.0 keeps files open
        'lz4>=4.0,<5',  # the same
        'safetensors>=0.4,<1',
        'scipy>=1.8,!=1.15.*,<2',  # 1.15: nnls misses the minimum
        'threadpoolctl>=3.5,<4',
        'torch>=2.6,<3',
        'tqdm>=4.60,<5',
        'transformers>=5.20,<6',
    ],
    extras_require={
        'openvino': ['openvino>=2024.4,<2027'],
        'onnx': ['onnx>=1.16,<2', 'onnxruntime>=1.18,<2'],
        'ray': ['ray>=2.9,<3'],
        'rerun': ['rerun-sdk>=0.23,<1'],
        'serve': ['anyio>=4.0,<5', 'av>=12,<19', 'starlette>=1.3.1,<2', 'uvicorn>=0.30,<1'],
        'training': ['h5py>=3.6,<4', 'peft>=0.20,<1', 'tensorboard>=2.9,<3'],
        'video': ['av>=12,<19'],
        'wandb': ['wandb<1'],
        'docs': ['mkdocstrings-python<3', 'zensical<1'],
        'test': [
            'pytest<10',
            'pytest-timeout<3',
            'pytest-xdist<4',
            'hypothesis<7',
            'h5py>=3.6,<4',
        ],
    },
    entry_points={
        'console_scripts': [
            f'depth_node = {NAME}.__main__:depth_node',
            f'marigold = {NAME}.__main__:main',
        ],
        # Commands that packages beside marigold_ros add to it.
        f'{NAME}.commands': [f'adapt = {TRAINING}.adapt.command'] if with_training else [],
    },
    zip_safe=False,
)
