# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Settings of Fast DDS for images and clouds between two processes of one machine; no ROS here.

Decision: Fast DDS shares 0.5 MB of memory per process and overwrites what has not been read when
that is full; a reliable writer notices at its next heartbeat, 3 s later. An image with a scan of
0.5 MB behind it was lost that way in half of all cases, so that a frame of 25 ms took 3 s. With
16 MB and heartbeats of 20 ms none was. A robot's drivers are processes of their own and do not
need it. ``python -m marigold_ros.live_run.transport`` prints config/fast_dds.xml, for whom clouds
of several megabytes are lost.
"""

from __future__ import annotations

from collections.abc import MutableMapping
import os
from pathlib import Path
import shutil

# The biggest cloud of the demo has 8 MB; containers often have 64 MB of shared memory in all.
SEGMENT_BYTES = 16 * 2**20
_SHARED_MEMORY = Path('/dev/shm')
_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
_TRANSPORTS = f"""
  <transport_descriptors>
    <transport_descriptor>
      <transport_id>shared_memory</transport_id>
      <type>SHM</type>
      <segment_size>{SEGMENT_BYTES}</segment_size>
    </transport_descriptor>
    <transport_descriptor>
      <transport_id>udp</transport_id>
      <type>UDPv4</type>
    </transport_descriptor>
  </transport_descriptors>
  <participant profile_name="demo" is_default_profile="true">
    <rtps>
      <userTransports>
        <transport_id>shared_memory</transport_id>
        <transport_id>udp</transport_id>
      </userTransports>
      <useBuiltinTransports>false</useBuiltinTransports>
    </rtps>
  </participant>"""
_PROFILES = """<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns="http://www.eprosima.com">
<profiles>{transports}
  <data_writer profile_name="demo_writer" is_default_profile="true">
    <times>
      <heartbeatPeriod>
        <sec>0</sec>
        <nanosec>20000000</nanosec>
      </heartbeatPeriod>
    </times>
  </data_writer>
</profiles>
</dds>
"""


def profile(room: bool = True) -> str:
    """Text of the profile; without room it leaves shared memory as it is."""
    return _PROFILES.format(transports=_TRANSPORTS if room else '')


def use_roomy_transport(folder: Path, environment: MutableMapping[str, str]) -> None:
    """
    Point this process and its children at a profile for big messages, written to a folder.

    A profile that the user has chosen stays. Where there is little shared memory or none, the
    transports stay as they are, and only the heartbeats change.
    """
    if any(name in environment for name in _VARIABLES):
        return
    path = (folder / 'fast_dds.xml').resolve()
    path.write_text(profile(_has_room()), encoding='utf-8')
    # Fast DDS 2 (to Jazzy) reads the first name, Fast DDS 3 the second.
    environment.update(dict.fromkeys(_VARIABLES, str(path)))


def _has_room() -> bool:
    if not os.access(_SHARED_MEMORY, os.W_OK):
        return False
    return shutil.disk_usage(_SHARED_MEMORY).free > 3 * SEGMENT_BYTES


if __name__ == '__main__':
    print(profile(), end='')
