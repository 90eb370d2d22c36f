# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
#
# The node on a Jetson with JetPack 6: ROS 2 Humble built from source, and NVIDIA's PyTorch. Written
# after the published files of the base image, and not built here. TORCH_INDEX is the address of the
# package index with NVIDIA's wheels for your JetPack (see NVIDIA's guide to PyTorch on Jetson).
#
#   docker build -f docker/jetson.Dockerfile --build-arg TORCH_INDEX=ADDRESS -t marigold_ros .
#   docker run --rm --runtime nvidia --network host --ipc host marigold_ros \
#       ros2 launch marigold_ros depth.launch.py image:=/camera/image_raw lidar:=/velodyne_points
ARG BASE=dustynv/ros:humble-desktop-l4t-r36.4.0
FROM ${BASE}

ARG TORCH_INDEX
# Empty values put pip's own index in place of the one in the base image.
ENV PIP_INDEX_URL= PIP_EXTRA_INDEX_URL=
# Shared memory reaches processes of the same user only, and here that is root.
ENV FASTDDS_BUILTIN_TRANSPORTS=UDPv4
SHELL ["/bin/bash", "-c"]
WORKDIR /ros2_ws

# PyTorch from that index alone: the one elsewhere is made for other GPUs.
RUN test -n "$TORCH_INDEX" || { echo 'give --build-arg TORCH_INDEX=ADDRESS' >&2; exit 1; } \
    && pip3 install --no-cache-dir --index-url "$TORCH_INDEX" 'torch>=2.6'
COPY . src/marigold_ros
# For its requirements; what ROS runs is the build below. ROS here is compiled against NumPy 1.
RUN pip3 install --no-cache-dir 'numpy<2' 'opencv-python-headless<4.12' ./src/marigold_ros
RUN source "$ROS_ROOT/install/setup.bash" && colcon build

ENTRYPOINT ["/bin/bash", "-c", \
    "source $ROS_ROOT/install/setup.bash && source /ros2_ws/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "marigold_ros", "depth.launch.py"]
