# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Pairing by stamp: nearest scan, finality, horizon, clock jumps."""

from functools import partial
import sys
import threading

from hypothesis import given
from hypothesis import strategies as st
from marigold_ros.pairing import nearest, ScanBuffer, stamp_error, StampOrder
import pytest

MS = 1_000_000
S = 1000 * MS
stamps_strategy = st.lists(st.integers(-5000, 5000), max_size=20)


@given(stamps=stamps_strategy, stamp=st.integers(-5000, 5000), limit=st.integers(0, 3000))
def test_nearest_is_within_the_limit_and_none_is_nearer(stamps, stamp, limit):
    index = nearest(stamps, stamp, limit)
    distances = [abs(s - stamp) for s in stamps]
    if index is None:
        assert all(distance > limit for distance in distances)
    else:
        assert distances[index] == min(distances) <= limit


def test_a_difference_of_exactly_the_limit_pairs():
    assert nearest([60], 0, 60) == 0
    assert nearest([61], 0, 60) is None


def test_of_two_scans_equally_far_the_earlier_is_taken():
    assert nearest([10, -10], 0, 50) == 1


def test_choice_is_final_once_a_later_scan_is_known():
    buffer = ScanBuffer(60 * MS, 2 * S)
    assert not buffer.choose(0).final
    buffer.add(-40 * MS, 'before')
    early = buffer.choose(0)
    assert (early.item, early.stamp_ns, early.final) == ('before', -40 * MS, False)
    buffer.add(3 * MS, 'after')
    late = buffer.choose(0)
    assert (late.item, late.stamp_ns, late.final) == ('after', 3 * MS, True)
    assert buffer.choose(3 * MS).final


def test_scans_too_far_are_no_choice_but_can_make_it_final():
    buffer = ScanBuffer(60 * MS, 2 * S)
    buffer.add(500 * MS, 'far')
    choice = buffer.choose(0)
    assert choice.item is None
    assert choice.stamp_ns is None
    assert choice.final


def test_scans_beyond_the_horizon_are_forgotten():
    buffer = ScanBuffer(60 * MS, horizon_ns=S)
    for tick in range(50):
        buffer.add(tick * 100 * MS, tick)
    assert len(buffer) == 11
    assert buffer.choose(3 * S).item is None
    assert buffer.choose(4 * S).item == 40


def test_scans_that_fit_the_last_two_images_are_kept_beyond_the_horizon():
    buffer = ScanBuffer(60 * MS, horizon_ns=S)
    for image in (0, 300 * MS, 300 * MS):  # the second asks again
        assert not buffer.choose(image).final
    for tick in range(50):
        buffer.add(tick * 100 * MS + 20 * MS, tick)
    assert len(buffer) == 11 + 2
    assert [buffer.choose(image).item for image in (0, 300 * MS)] == [0, 3]
    for image in (4 * S, 5 * S):
        buffer.choose(image)
    buffer.add(5 * S, 'new')
    assert buffer.choose(300 * MS).item is None


def test_scans_that_fit_the_last_image_that_came_are_kept_for_it():
    buffer = ScanBuffer(60 * MS, horizon_ns=S)
    buffer.choose(0)
    for waiting in (200 * MS, 300 * MS):  # the second in place of the first
        buffer.expect(waiting)
    for tick in range(50):
        buffer.add(tick * 100 * MS, tick)
    for image in (0, 300 * MS):  # which the model has taken
        assert buffer.choose(image).item == image // (100 * MS)
    for waiting in range(6, 90):
        buffer.expect(waiting * S)
        buffer.choose(waiting * S)
    buffer.add(5 * S, 'new')
    assert len(buffer) == 11


def test_of_scans_with_one_stamp_as_of_a_clock_that_stands_still_the_last_is_kept():
    buffer = ScanBuffer(60 * MS, 2 * S)
    for number in range(100):
        buffer.add(S, number)
    assert len(buffer) == 1
    assert buffer.choose(S + 20 * MS).item == 99


@pytest.mark.parametrize('other', [200 * MS, 38 * S])
def test_a_late_scan_is_kept_in_its_place_also_after_one_ahead_of_time(other):
    buffer = ScanBuffer(60 * MS, 2 * S)
    buffer.add(other, 'new')
    buffer.add(100 * MS, 'late')
    assert buffer.choose(101 * MS).item == 'late'


def test_a_reading_takes_the_place_of_its_message_however_old_it_is():
    buffer = ScanBuffer(60 * MS, 2 * S)
    buffer.add(S, 'message')
    buffer.add(S + 1200 * MS, 'next')
    buffer.add(S, 'reading')
    assert len(buffer) == 2
    assert buffer.choose(S).item == 'reading'


def test_exactly_one_second_back_is_late_not_a_jump():
    buffer = ScanBuffer(60 * MS, 2 * S)
    buffer.add(2 * S, 'new')
    buffer.add(S, 'late')
    assert len(buffer) == 2
    buffer.add(S - 1, 'jump')
    assert len(buffer) == 1


def test_clear_forgets_scans_and_clock():
    buffer = ScanBuffer(60 * MS, 2 * S)
    buffer.add(9 * S, 'old')
    buffer.clear()
    assert not buffer.choose(0).final


def test_adding_and_choosing_from_two_threads_keeps_the_pairs():
    buffer = ScanBuffer(60 * MS, 2 * S)

    def add():
        for tick in range(500):
            buffer.add(tick * MS, tick)

    thread = threading.Thread(target=add)
    thread.start()
    while thread.is_alive():
        choice = buffer.choose(250 * MS)
        assert choice.item is None or choice.item * MS == choice.stamp_ns
    assert buffer.choose(250 * MS).item == 250


def judged(stamps, topic='image', order=None):
    """Judge stamps in seconds of one topic, heard ten a second."""
    order = order or StampOrder()
    return [order.judge(topic, round(t * S), i * 100 * MS) for i, t in enumerate(stamps)]


def test_stamps_in_order_are_good_whatever_their_rate():
    assert set(judged(range(20))) == {'good'}  # ten times as fast as recorded
    assert set(judged([5, 5.1, 5.1])) == {'good'}
    order = StampOrder()  # an image every two minutes
    assert {order.judge('image', i * 120 * S, i * 120 * S) for i in range(5)} == {'good'}
    assert order.judge('image', 600 * S, 481 * S) == 'lone'  # a leap, however long all has run


def test_a_lone_stamp_out_of_order_changes_nothing():
    for wrong in (-500, 0, 3600, 1e9):
        assert judged([10, 10.1, wrong, 10.2, 10.3]) == ['good', 'good', 'lone', 'good', 'good']
        assert judged([10, wrong, 10.1, wrong, 10.2]).count('lone') == 2
    assert judged([10, 3600, 9000, 10.1]) == ['good', 'lone', 'lone', 'good']


def test_after_a_lone_stamp_just_ahead_the_others_are_good():
    assert judged([10, 10.1, 25, 10.2, 10.3, 12.4, 10.4]) == 7 * ['good']
    assert judged([10, 25, 25.1, 10.2, 10.3]) == ['good', 'good', 'good', 'lone', 'jump']


def test_stamps_that_repeat_or_are_missing_are_told_apart():
    order = StampOrder()
    for stamp in (0, 5):
        order.judge('image', stamp, 0)
        assert order.is_repeated('image', stamp) == bool(stamp)
        assert stamp_error(stamp).cause == 'stamp'
    assert 'the stamp is 0' in str(stamp_error(0))
    assert 'out of order' in str(stamp_error(5))


def test_late_stamps_are_good_up_to_a_second_behind_the_newest():
    assert judged([5, 4.2, 4, 3.9, 5.1]) == ['good', 'good', 'good', 'lone', 'good']


def test_two_that_agree_are_a_jump_and_all_goes_on_from_there():
    assert judged([100, 0, 0.1, 0.2, 0.3]) == ['good', 'lone', 'jump', 'good', 'good']
    assert judged([0, 9000, 9000.1, 9000.2]) == ['good', 'lone', 'jump', 'good']
    assert judged([100, 0.5, 0, 0.6]) == ['good', 'lone', 'jump', 'good']


def test_topics_agree_with_each_other():
    order = StampOrder()
    assert judged([100, 100.1], 'image', order) == judged([100], 'scan', order) * 2
    assert judged([0.02], 'scan', order) == ['lone']
    assert judged([0.03, 0.13], 'image', order) == ['jump', 'good']
    assert judged([0.12], 'scan', order) == ['good']


def test_a_lone_stamp_like_one_before_a_jump_is_no_jump_again():
    order = StampOrder()
    assert judged([100, 0], 'scan', order) == ['good', 'lone']
    assert judged([100, 0.1], 'image', order) == ['good', 'jump']  # and no scan after it
    assert judged([50, 50.1, 0.2, 50.2], 'image', order) == ['good', 'good', 'lone', 'good']


def test_stamps_are_judged_while_another_thread_clears_them(request):
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    order, done = StampOrder(), threading.Event()

    def clear():
        while not done.wait(1e-4):
            order.clear()

    thread = threading.Thread(target=clear)
    thread.start()
    try:
        for _ in range(6000):
            for topic, wrong in zip('abc', (0, 1000, 2000), strict=True):  # none agree
                judged([500, wrong], topic, order)
    finally:
        done.set()
        thread.join()


@given(stamps=st.lists(st.integers(-100, 100), max_size=30), wrong=st.integers(-100, 100))
def test_of_two_stamps_alike_at_most_one_is_refused(stamps, wrong):
    assert judged([*stamps, wrong, wrong])[-2:] != ['lone', 'lone']


def test_changed_limits_keep_the_scans_that_are_there_and_move_their_stamps():
    buffer = ScanBuffer(1, 1)
    buffer.change(60, 2_000, later_ns=30)
    assert buffer.newest_ns is None
    for stamp in (0, 100, 250):
        buffer.add(stamp, f'scan {stamp}')
    assert buffer.period_ns == 100
    buffer.change(10, 5_000, later_ns=30)
    assert buffer.choose(130).item == 'scan 100'
    assert buffer.choose(180).item is None
    assert buffer.newest_ns == 280
    assert buffer.choose(281).final is False
