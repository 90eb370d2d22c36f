# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Quality of service follows the publishers, unless the user wants otherwise."""

import threading
from types import SimpleNamespace

from marigold_ros.errors import ConfigurationError
from marigold_ros.live_run.process import own_context
from marigold_ros.node.distro import HoldableGroup, OncePool, shut_down, spin, threaded_executor
from marigold_ros.node.interface.publishers import TOPICS
from marigold_ros.node.interface.qos import describe_profile, input_profile, user_overrides
import pytest
from rclpy.exceptions import InvalidHandle
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

SECOND = 1_000_000_000
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
ROLES = {
    'image': '/camera/image_raw',
    'info': '/camera/camera_info',
    'lidar': '/velodyne_points',
}
LATCHED = QoSProfile(
    depth=5, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


@pytest.mark.parametrize(
    ('setting', 'offers', 'expected'),
    [
        ('auto', [], 'best_effort, volatile'),
        ('auto', [RELIABLE], 'reliable, volatile'),
        ('auto', [RELIABLE, BEST_EFFORT], 'best_effort, volatile'),
        ('auto', [LATCHED, LATCHED], 'reliable, transient_local'),
        ('auto', [LATCHED, RELIABLE], 'reliable, volatile'),
        ('reliable', [BEST_EFFORT], 'reliable, volatile'),
        ('reliable', [LATCHED], 'reliable, transient_local'),
        ('reliable', [], 'reliable, volatile'),
        ('best_effort', [LATCHED], 'best_effort, volatile'),
        ('best_effort', [RELIABLE], 'best_effort, volatile'),
    ],
)
def test_auto_is_reliable_only_if_all_publishers_are(setting, offers, expected):
    profile = input_profile(setting, 1, offers)
    assert describe_profile(profile) == expected
    assert profile.depth == 1


def chosen(running):
    """Return the profile of the node's subscription to images, in words."""
    return running.status('qos')[2]['/camera/image_raw'].partition(' (')[0]


def test_a_best_effort_camera_that_joins_is_heard_too(bench):
    running = bench(hear=('relative/image',))
    robot, topic = running.robot.node, '/camera/image_raw'
    assert chosen(running) == 'reliable, volatile'
    late = robot.create_publisher(Image, topic, BEST_EFFORT)
    running.wait_for(lambda: chosen(running) == 'best_effort, volatile')
    running.wait_for(lambda: late.get_subscription_count() == 1)
    (before,) = robot.get_subscriptions_info_by_topic(topic)
    running.deliver('image', running.robot.image_message(SECOND), late)
    running.wait_received('relative/image')
    running.node.refresh_inputs()
    (after,) = robot.get_subscriptions_info_by_topic(topic)
    assert after == before  # made anew only when the answer changes


@pytest.mark.parametrize('setting', ['auto', 'reliable', 'best_effort'])
@pytest.mark.parametrize(
    ('offer', 'followed'),
    [
        (BEST_EFFORT, 'best_effort, volatile'),
        (RELIABLE, 'reliable, volatile'),
        (LATCHED, 'reliable, transient_local'),
    ],
)
def test_any_offer_and_setting_connects_or_is_explained(bench, offer, followed, setting):
    running = bench(
        {'image_reliability': setting, 'compute_without_listeners': True}, connect=False
    )
    robot = running.robot.node
    robot.destroy_publisher(running.robot.image)
    image = robot.create_publisher(Image, '/camera/image_raw', offer)
    running.wait_for(lambda: running.node.count_publishers('/camera/image_raw') == 1)
    running.node.refresh_inputs()
    if setting == 'reliable' and offer is BEST_EFFORT:
        running.wait_for(lambda: 'does not fit reliable' in running.status('qos')[1])
        offers = running.status('qos')[2]['/camera/image_raw']
        assert offers == 'reliable, volatile (reliable, 1 publishers)'
        robot.destroy_publisher(image)
        running.wait_for(lambda: running.status('qos')[:2] == (0, 'compatible'))
        return
    running.wait_for(lambda: image.get_subscription_count() == 1)
    running.deliver('image', running.robot.image_message(SECOND), image)
    assert running.status('qos')[1] == 'compatible'
    if setting == 'auto':
        assert chosen(running) == followed


@pytest.mark.parametrize('setting', ['auto', 'reliable'])
def test_a_latched_camera_info_from_before_the_start_is_received(bench, setting):
    running = bench({'info_reliability': setting}, connect=False, autostart=False)
    running.robot.node.destroy_publisher(running.robot.info)
    latched = running.robot.node.create_publisher(CameraInfo, '/camera/camera_info', LATCHED)
    latched.publish(running.robot.camera_info(SECOND))
    running.wait_for(lambda: running.node.count_publishers('/camera/camera_info') == 1)
    running.node.autostart()
    running.wait_for(lambda: running.count('infos.received') == 1)


def test_the_users_overrides_win_and_stay(bench):
    running = bench(
        {'qos_overrides./camera/image_raw.subscription.reliability': 'best_effort'},
        hear=('relative/image',),
    )
    for _ in range(2):
        infos = running.robot.node.get_subscriptions_info_by_topic('/camera/image_raw')
        assert [i.qos_profile.reliability for i in infos] == [ReliabilityPolicy.BEST_EFFORT]
        running.node.refresh_inputs()


def test_an_output_can_be_overridden_too(bench):
    topic = '/marigold_depth/relative/image'
    name = f'qos_overrides.{topic}.publisher.'
    running = bench({f'{name}reliability': 'best_effort', f'{name}durability': 'transient_local'})
    infos = running.robot.node.get_publishers_info_by_topic(topic)
    assert [i.qos_profile.reliability for i in infos] == [ReliabilityPolicy.BEST_EFFORT]
    assert [i.qos_profile.durability for i in infos] == [DurabilityPolicy.TRANSIENT_LOCAL]
    others = running.robot.node.get_publishers_info_by_topic('/marigold_depth/points')
    assert [i.qos_profile.reliability for i in others] == [ReliabilityPolicy.RELIABLE]


@pytest.mark.parametrize(
    ('policy', 'value', 'words'),
    [
        ('reliability', 'sure', 'choose one of system_default, reliable, best_effort'),
        ('history', 3, 'choose one of system_default, keep_last, keep_all'),
        ('depth', -1, 'give a number of messages'),
        ('depth', '1', 'give a number of messages'),
        ('depth', True, 'give a number of messages'),
        ('relability', 'reliable', 'policies are depth, history, reliability, durability'),
    ],
)
def test_a_wrong_override_is_refused_in_a_sentence(bench, policy, value, words):
    name = f'qos_overrides./marigold_depth/points.publisher.{policy}'
    node = bench({name: value}, autostart=False).node
    with pytest.raises(ConfigurationError, match=f'{name} is {value!r}; {words}'):
        user_overrides(node, '/marigold_depth/points', 'publisher')


def test_what_goes_with_images_is_kept_longer_than_they(bench):
    running = bench()
    # Discovery does not carry the depth, so the publishers are asked.
    depth = {p.topic_name: p.qos_profile.depth for p in running.node.publishers}
    sets = [name for name in TOPICS if name.endswith('camera_info')]
    assert {depth[f'/marigold_depth/{name}'] for name in [*sets, 'alignment']} == {5}
    assert {depth[f'/marigold_depth/{name}'] for name in ('depth/image_rect', 'points')} == {1}
    inputs = {s.topic_name: s.qos_profile.depth for s in running.node.subscriptions}
    assert [inputs[topic] for topic in ROLES.values()] == [1, 1, 5]


@pytest.mark.parametrize('role', ['image', 'info', 'lidar'])
def test_each_input_has_a_reliability_of_its_own(bench, role):
    values = bench({f'{role}_reliability': 'best_effort'}).status('qos')[2]
    asked = {name: values[topic].partition(' ')[0] for name, topic in ROLES.items()}
    assert asked == {**dict.fromkeys(ROLES, 'reliable,'), role: 'best_effort,'}


def test_a_held_group_runs_nothing_and_waits_for_callbacks():
    group, callback, other = HoldableGroup(), _Entity(), _Entity()
    group.add_entity(callback)
    group.add_entity(other)
    assert group.beginning_execution(callback)
    held_now, order = threading.Event(), []

    def hold():
        with group.held():
            order.append('held')
            assert not group.beginning_execution(other)
            held_now.set()

    thread = threading.Thread(target=hold)
    thread.start()
    order.append('callback ended')
    group.ending_execution(callback)
    assert held_now.wait(5)
    thread.join(5)
    assert order == ['callback ended', 'held']
    assert group.beginning_execution(other)


@pytest.mark.parametrize('alive', [True, False])
def test_spin_survives_an_entity_destroyed_meanwhile(alive):
    rounds = iter([InvalidHandle('destruction was requested'), None])

    class Executor:
        context = SimpleNamespace(ok=lambda: alive)

        def spin(self):
            if (error := next(rounds)) is not None:
                raise error

    spin(Executor())
    assert next(rounds, 'both rounds') == ('both rounds' if alive else None)


@pytest.mark.parametrize('ended', [True, False])
def test_spin_ignores_lost_guards_only_at_shutdown(ended):
    class Executor:
        context = SimpleNamespace(ok=lambda: True)
        _is_shutdown = ended

        def spin(self):
            raise AttributeError("'NoneType' object has no attribute 'handle'")

    if ended:
        spin(Executor())
        return
    with pytest.raises(AttributeError):
        spin(Executor())


def test_guards_are_destroyed_after_rclpys_signal_thread_has_walked_them():
    # It ends the context next; rclpy frees the list while the thread reads it.
    walking = iter([True, True, False])

    class Executor:
        context = SimpleNamespace(ok=lambda: next(walking))

        def shutdown(self, timeout_sec):
            assert next(walking, 'over') == 'over'

    shut_down(Executor())


def test_subscriptions_go_while_their_group_is_held(bench):
    running = bench()
    node = running.node
    destroy, seen = node.destroy_subscription, []

    def check_and_destroy(subscription):
        seen.append(subscription.callback_group.can_execute(subscription))
        return destroy(subscription)

    node.destroy_subscription = check_and_destroy
    node.stop()
    assert seen == [False] * 3


def test_no_subscription_is_made_anew_behind_the_end_of_the_others(bench, monkeypatch):
    running = bench()
    inputs = running.node._inputs
    inputs.image.profile = None  # as if the camera's offer had changed
    began, subscribe = threading.Event(), inputs._subscribe

    def subscribe_late(item, profile):
        began.set()
        closing.join(0.5)
        subscribe(item, profile)

    monkeypatch.setattr(inputs, '_subscribe', subscribe_late)
    closing = threading.Thread(target=lambda: began.wait(10) and running.node.stop())
    closing.start()
    running.node.refresh_inputs()
    closing.join(60)
    assert not closing.is_alive()
    # Not count_subscribers: the node of an earlier test may still be known to DDS.
    assert inputs.image.topic not in [one.topic_name for one in running.node.subscriptions]


def test_a_task_that_waits_is_not_queued_again():
    with own_context() as context:
        executor = threaded_executor(context, 2)
        assert isinstance(executor._executor, OncePool)
        executor.shutdown()
    pool = OncePool(1)
    begun, go_on, runs = threading.Event(), threading.Event(), []

    def busy():
        begun.set()
        assert go_on.wait(10)

    def task():
        runs.append(1)

    pool.submit(busy)
    assert begun.wait(5)
    for _ in range(100):
        pool.submit(task)
    go_on.set()
    pool.shutdown(wait=True)
    assert len(runs) == 1


class _Entity:
    """An entity of a callback group."""
