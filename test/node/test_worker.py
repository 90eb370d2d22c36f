# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The slot between callbacks and the worker."""

import threading
import time

from marigold_ros.node.worker import Mailbox, Worker
import pytest


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


class Steps:
    """Both steps of a worker: each item waits at both for its turn, and what happens is kept."""

    def __init__(self, predicting=(), finishing=()):
        self.gates = {'predict': {}, 'finish': {}}
        for step, items in (('predict', predicting), ('finish', finishing)):
            self.gates[step] = {item: threading.Event() for item in items}
        self.happened, self.changed = [], threading.Condition()

    def predict(self, item, alone):
        self.note('taken', item)
        if item == 'alone':
            alone()
        self.note('predict', item)
        self.gates['predict'].get(item, OPEN).wait(10)
        return None if item == 'failed' else item

    def finish(self, item):
        self.note('finish', item)
        self.gates['finish'].get(item, OPEN).wait(10)
        self.note('finished', item)

    def note(self, *event):
        with self.changed:
            self.happened.append(event)
            self.changed.notify_all()

    def wait(self, *event):
        with self.changed:
            assert self.changed.wait_for(lambda: event in self.happened, 10), self.happened


OPEN = threading.Event()
OPEN.set()


@pytest.fixture
def working():
    """Return a function that starts a worker on steps; it ends with the test."""
    workers = []

    def start(steps, **more):
        workers.append(Worker(steps.predict, steps.finish, lambda: 0.0, **more))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close(10)


def both_at_work(working):
    """Return steps and worker while item 1 is held in its second step and 2 in its first."""
    steps = Steps(predicting=[2], finishing=[1])
    worker = working(steps)
    for item in (1, 2):
        worker.mailbox.put(item)
        steps.wait('predict', item)
        steps.wait('finish', 1)
    return steps, worker


def test_the_next_item_is_predicted_while_one_is_finished_and_they_keep_their_order(working):
    steps = Steps(finishing=[1])
    worker = working(steps)
    worker.mailbox.put(1)
    steps.wait('finish', 1)
    worker.mailbox.put(2)
    steps.wait('predict', 2)
    assert ('finished', 1) not in steps.happened
    steps.gates['finish'][1].set()
    steps.wait('finished', 2)
    order = [event for event in steps.happened if 'finish' in event[0]]
    assert order == [('finish', 1), ('finished', 1), ('finish', 2), ('finished', 2)]


def test_of_items_that_come_while_both_threads_work_the_newest_is_taken(working):
    steps, worker = both_at_work(working)
    assert worker.mailbox.put(3) is None
    assert worker.mailbox.put(4) == 3
    steps.gates['predict'][2].set()
    steps.gates['finish'][1].set()
    steps.wait('finished', 4)
    assert ('predict', 3) not in steps.happened


@pytest.mark.parametrize('said', ['by the item', 'for all'])
def test_an_item_that_is_to_be_alone_waits_and_is_waited_for(working, said):
    item = 'alone' if said == 'by the item' else 'other'
    steps = Steps(finishing=[1, item])
    worker = working(steps, overlaps=lambda: said == 'by the item')
    worker.mailbox.put(1)
    steps.wait('finish', 1)
    worker.mailbox.put(item)
    if said == 'by the item':
        steps.wait('taken', item)
    steps.gates['finish'][1].set()
    steps.wait('finish', item)
    worker.mailbox.put(3)
    if said == 'for all':
        assert ('predict', 3) not in steps.happened
    steps.gates['finish'][item].set()
    steps.wait('finished', 3)
    order = steps.happened
    assert order.index(('finished', 1)) < order.index(('predict', item))
    if said == 'for all':
        assert order.index(('finished', item)) < order.index(('predict', 3))


def test_an_item_that_failed_is_not_finished_and_the_next_one_is(working):
    steps = Steps()
    worker = working(steps)
    worker.mailbox.put('failed')
    steps.wait('predict', 'failed')
    worker.mailbox.put(2)
    steps.wait('finished', 2)
    assert ('finish', 'failed') not in steps.happened


def test_a_closed_worker_ends_what_is_in_work_and_returns_what_waited(working):
    steps, worker = both_at_work(working)
    worker.mailbox.put(3)
    closing = []
    closer = threading.Thread(target=lambda: closing.append(worker.close(10)))
    closer.start()
    while worker.mailbox.put(4) != 4:
        time.sleep(0.001)
    assert worker.alive
    steps.gates['predict'][2].set()
    steps.gates['finish'][1].set()
    closer.join(10)
    assert ('finished', 2) in steps.happened
    assert closing[0] in (3, 4)
    assert not worker.alive


def test_an_item_that_is_predicted_at_the_end_is_finished_too(working):
    for _ in range(20):  # its second step may begin late
        steps = Steps(predicting=[1])
        worker = working(steps)
        worker.mailbox.put(1)
        steps.wait('predict', 1)
        worker.mailbox.close()
        steps.gates['predict'][1].set()
        worker.close(10)
        assert ('finished', 1) in steps.happened


class Timed(Steps):
    """Steps of some length, and when they began and ended."""

    def __init__(self, predict_s, finish_s):
        super().__init__()
        self.seconds, self.times = (predict_s, finish_s), {}

    def predict(self, item, alone):
        self.times['taken', item] = time.monotonic()
        time.sleep(self.seconds[0])
        return item

    def finish(self, item):
        self.times['finish', item] = time.monotonic()
        self.note('finish', item)
        time.sleep(self.seconds[1])
        self.times['finished', item] = time.monotonic()
        self.note('finished', item)


def test_an_item_is_taken_so_that_it_is_ready_when_the_one_before_is_finished(working):
    steps = Timed(0.2, 0.6)  # durations that are learnt
    worker = working(steps)
    for item in range(4):
        worker.mailbox.put(item)
        steps.wait('finish', item)
    # Taken at once it would wait for 0.4 s between its steps.
    assert steps.times['taken', 3] - steps.times['finish', 2] > 0.1
    assert steps.times['taken', 3] < steps.times['finished', 2]


def test_short_predictions_wait_for_the_item_before(working):
    steps = Timed(0.0, 0.1)
    worker = working(steps)
    for item in range(4):
        worker.mailbox.put(item)
        steps.wait('finish', item)
    assert steps.times['taken', 3] > steps.times['finished', 2]
