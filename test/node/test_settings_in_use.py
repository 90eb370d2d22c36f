# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Whatever is set while the node runs, its defaults bring back what it did before."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, RuleBasedStateMachine, run_state_machine_as_test
from marigold_ros.config import NodeConfig
from marigold_ros.message_codec import to_depth
from marigold_ros.settings import parameters
import numpy as np
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from test.node.conftest import HEIGHT, plane, SECOND

# Those of the model count from ~/reload on, and texts have no range to draw from.
CHANGEABLE = [
    parameter
    for parameter in parameters(NodeConfig)
    if not parameter.read_only and (parameter.choices or parameter.kind in (bool, int, float))
]


def values_of(parameter):
    """Values that a parameter takes, its limits among them."""
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    if parameter.kind is bool:
        return st.booleans()
    low, high = parameter.low, parameter.high
    if parameter.kind is int:
        return st.integers(int(low), int(high))
    few = sorted({low, min(low + 0.02, high), (low + high) / 2, high, parameter.default})
    return st.sampled_from([float(value) for value in few])


CHANGES = st.sampled_from(CHANGEABLE).flatmap(
    lambda parameter: st.tuples(st.just(parameter), values_of(parameter))
)


class SettingsInUse(RuleBasedStateMachine):
    """Sets parameters and sends frames in any order; at the end all have their defaults."""

    running = None  # the node, given by the test

    def __init__(self):
        super().__init__()
        self.running.start_anew()
        self.stamp, self.changed = 0, set()

    def send(self):
        self.stamp += SECOND // 10
        self.running.send(self.stamp)

    @rule(change=CHANGES)
    def set_one(self, change):
        parameter, value = change
        name = parameter.name.replace('.', '__')
        if self.running.configure(**{name: value}):  # two that contradict are refused
            self.changed.add(parameter)

    @rule()
    def send_frame(self):
        self.send()

    @rule()
    def reset(self):
        assert self.running.call(Trigger, 'reset').success

    def teardown(self):
        running = self.running
        # At once: an order in which each step is valid need not exist.
        defaults = [Parameter(p.name, value=p.default) for p in self.changed]
        assert not defaults or running.node.set_parameters_atomically(defaults).successful
        received = running.robot.received['depth/image_rect']
        self.send()
        last = running.robot.begin_ns + self.stamp
        running.wait_for(lambda: any(stamp_of(message) == last for message in received))
        (message,) = (message for message in received if stamp_of(message) == last)
        depth = to_depth(message)
        expected = plane(np.arange(HEIGHT) / (HEIGHT - 1))[:, None]
        assert np.nanmedian(np.abs(depth / expected - 1)) < 0.02
        assert np.isfinite(depth).mean() > 0.9


def stamp_of(message):
    return message.header.stamp.sec * SECOND + message.header.stamp.nanosec


def test_the_defaults_bring_back_what_any_settings_changed(shared):
    SettingsInUse.running = shared.started()
    run_state_machine_as_test(
        SettingsInUse,
        settings=settings(
            max_examples=min(20, settings().max_examples),
            stateful_step_count=12,
            deadline=None,
            phases=(Phase.generate,),  # a step that fails waits half a minute: none to shrink by
            suppress_health_check=list(HealthCheck),
        ),
    )
