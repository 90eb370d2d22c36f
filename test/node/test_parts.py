# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The slot between callbacks and the worker, the counters, the colours."""

import threading
import time

from marigold_ros.message_codec import header_ns
from marigold_ros.node.health.health import Counters, Timings
from marigold_ros.node.interface.messages import byte_array, colour_depth, to_stamp
from marigold_ros.node.worker import Mailbox, Worker
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header


def test_a_newer_item_replaces_one_that_waits():
    box = Mailbox()
    assert box.put('old') is None
    assert box.put('new') == 'old'
    assert box.take() == 'new'


def test_a_closed_mailbox_ends_waiting_and_takes_no_item():
    box = Mailbox()
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(box.take()))
    waiting.start()
    assert box.close() is None
    waiting.join(5)
    assert taken == [None]
    assert box.put('late') == 'late'


def test_a_waiting_item_is_held_back_until_its_time():
    box = Mailbox()
    box.put('item')
    due = time.monotonic() + 0.05
    assert box.take(not_before=due) == 'item'
    assert time.monotonic() >= due


def test_the_worker_serves_one_at_a_time_and_returns_what_waited():
    started, gate, served = threading.Event(), threading.Event(), []

    def serve(item):
        started.set()
        gate.wait(5)
        served.append(item)

    worker = Worker(serve, lambda: 0.0)
    worker.mailbox.put(1)
    assert started.wait(5)
    worker.mailbox.put(2)
    closing = []
    closer = threading.Thread(target=lambda: closing.append(worker.close(5)))
    closer.start()
    while worker.mailbox.put(3) != 3:
        time.sleep(0.001)
    gate.set()
    closer.join(5)
    assert served == [1]
    assert closing[0] in (2, 3)
    assert not worker.alive


def test_counters_add_up_in_every_snapshot_of_a_busy_node():
    counters = Counters()
    stop = threading.Event()

    def work(outcome):
        while not stop.is_set():
            counters.enter_frame()
            counters.leave_frame(outcome)

    threads = [
        threading.Thread(target=work, args=(outcome,))
        for outcome in ('frames.served', 'frames.dropped_newer', 'frames.rejected.encoding')
    ]
    for thread in threads:
        thread.start()
    for _ in range(200):
        moment = counters.snapshot('frames.')
        received = moment.pop('frames.received')
        assert received == sum(moment.values())
    stop.set()
    for thread in threads:
        thread.join()
    assert counters.snapshot()['frames.in_flight'] == 0


def test_percentiles_are_those_of_the_window():
    timings = Timings(window=5)
    for duration in (1000.0, 1.0, 2.0, 3.0, 4.0, 5.0):
        timings.add({'predict': duration})
    assert timings.percentiles()['predict.p50_ms'] == 3.0
    assert timings.percentiles()['predict.p95_ms'] == pytest.approx(4.8)


def test_stamps_survive_the_way_there_and_back():
    for nanoseconds in (0, 1, 999_999_999, 1_000_000_000, 1_795_162_579_238_975_568):
        assert header_ns(Image(header=Header(stamp=to_stamp(nanoseconds)))) == nanoseconds


def test_bytes_arrive_as_they_were():
    data = np.arange(300, dtype=np.uint16).view(np.uint8)
    assert bytes(byte_array(data)) == data.tobytes()
    assert len(byte_array(np.zeros(0, np.uint8))) == 0


def test_near_is_red_far_is_blue_and_invalid_is_black():
    image = colour_depth(np.array([[0.5, 80.0, np.nan, 0.1, 500.0]], np.float32), 0.5, 80.0)
    near, far, invalid, nearer, farther = image[0].astype(int)
    assert near[2] > near[0]
    assert far[0] > far[2]
    assert (invalid == 0).all()
    assert (nearer == near).all()
    assert (farther == far).all()
