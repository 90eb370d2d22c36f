# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Fast DDS profile for images and clouds between two processes of one machine; no ROS here.

Decision: by default Fast DDS shares 0.5 MB of memory per process, overwrites unread data when that
is full, and notices at the next heartbeat, 3 s later, which lost half of the images that a scan
followed. 16 MB and heartbeats of 20 ms lose none. ``python -m marigold_ros.live_run.transport``
prints config/fast_dds.xml for robots that lose clouds of several megabytes.
"""

from collections.abc import MutableMapping
import os
from pathlib import Path
import shutil

from marigold_ros.node.interface.launch_arguments import DDS_PROFILES

# The largest cloud of the demo has 8 MB; containers often have 64 MB of shared memory in all.
SEGMENT_BYTES = 16 * 2**20
_SHARED_MEMORY = Path('/dev/shm')
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
    """Return the text of the profile; without room it leaves shared memory as it is."""
    return _PROFILES.format(transports=_TRANSPORTS if room else '')


def use_roomy_transport(folder: Path, environment: MutableMapping[str, str]) -> None:
    """
    Write a profile for large messages to a folder and select it for this process and its children.

    A profile that the user has chosen stays. With little shared memory only the heartbeats change.
    """
    if any(name in environment for name in DDS_PROFILES):
        return
    path = (folder / 'fast_dds.xml').resolve()
    free = shutil.disk_usage(_SHARED_MEMORY).free if os.access(_SHARED_MEMORY, os.W_OK) else 0
    path.write_text(profile(free > 3 * SEGMENT_BYTES), encoding='utf-8')
    environment.update(dict.fromkeys(DDS_PROFILES, str(path)))


if __name__ == '__main__':
    print(profile(), end='')
