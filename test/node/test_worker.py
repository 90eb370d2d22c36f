# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The slot between callbacks and the worker."""

import threading
import time

from marigold_ros.node.worker import Mailbox, Worker


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
    assert box.take(not_before=lambda: due) == 'item'
    assert time.monotonic() >= due


def test_a_shorter_time_counts_from_the_next_item_on():
    box, due, taken = Mailbox(), [time.monotonic() + 600.0], []
    box.put('old')
    waiting = threading.Thread(target=lambda: taken.append(box.take(lambda: due[0])))
    waiting.start()
    due[0] = 0.0
    box.put('new')
    waiting.join(5)
    assert taken in (['old'], ['new'])


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
