# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The lifecycle as a manager drives it, over the node's own services."""

import gc
import shutil
import threading
from types import SimpleNamespace
import weakref

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from marigold_ros.errors import CheckpointError, ConfigurationError
from marigold_ros.live_run.process import own_context, own_node
from marigold_ros.message_codec import header_ns
from marigold_ros.models import EMBEDDED
from marigold_ros.models.fusion.load import fusion_of
from marigold_ros.models.locate import FUSION
from marigold_ros.node.distro import spin, threaded_executor
from marigold_ros.node.frame_server import FrameServer
from marigold_ros.node.health import Health
from marigold_ros.node.interface.subscriptions import Inputs
from marigold_ros.node.lifecycle import ManagedNode, transition
from marigold_ros.node.loading import load
from marigold_ros.node.worker import Mailbox
from marigold_ros.pipeline import FramePipeline
import pytest
from rclpy.parameter import Parameter
from safetensors.torch import load_file, save_file
from std_srvs.srv import Trigger

SECOND = 1_000_000_000
RELATIVE, DEPTH = 'relative/image', 'depth/image_rect'


def state(running):
    """Request the node's state by service."""
    return running.call(GetState, 'get_state').current_state.id


def change(running, transition):
    """Request a transition by service; returns whether it succeeded."""
    return running.call(ChangeState, 'change_state', transition=Transition(id=transition)).success


def serve_one_while_active(running, round_):
    """Activate, have one image served, deactivate."""
    assert change(running, Transition.TRANSITION_ACTIVATE)
    assert state(running) == State.PRIMARY_STATE_ACTIVE
    running.wait_connected(1)
    running.send(round_ * 10 * SECOND)
    running.wait_received('relative/image', round_)
    running.wait_quiet(round_)
    assert change(running, Transition.TRANSITION_DEACTIVATE)
    running.wait_for(lambda: running.robot.image.get_subscription_count() == 0)


def test_a_manager_can_lead_the_node_through_its_whole_life(bench):
    running = bench(hear=(RELATIVE,), autostart=False)
    assert state(running) == State.PRIMARY_STATE_UNCONFIGURED
    for round_ in (1, 2):
        assert change(running, Transition.TRANSITION_CONFIGURE)
        assert state(running) == State.PRIMARY_STATE_INACTIVE
        assert running.robot.image.get_subscription_count() == 0
        serve_one_while_active(running, round_)
        running.wait_for(lambda: running.node.count_publishers('/diagnostics') == 1)
        assert change(running, Transition.TRANSITION_CLEANUP)
        assert state(running) == State.PRIMARY_STATE_UNCONFIGURED
        running.wait_for(lambda: running.node.count_publishers('/diagnostics') == 0)
    assert change(running, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state(running) == State.PRIMARY_STATE_FINALIZED
    frames = running.node.health.counters.snapshot('frames.')
    assert (frames['frames.received'], frames['frames.served']) == (2, 2)


@pytest.mark.parametrize('unload', [False, True])
def test_the_model_is_unloaded_on_deactivate_only_if_set(bench, unload):
    loaded = []

    def load(_config):
        loaded.append(weakref.ref(model := type(running.model)()))
        return model

    running = bench(
        {'unload_on_deactivate': unload}, hear=(RELATIVE,), autostart=False, load_model=load
    )
    assert change(running, Transition.TRANSITION_CONFIGURE)
    for round_ in (1, 2):
        serve_one_while_active(running, round_)
        assert (loaded[-1]() is None) == unload
    assert len(loaded) == (2 if unload else 1)


def test_an_activation_leaves_no_inputs_in_memory(bench):
    running = bench(hear=(RELATIVE,), autostart=False)
    assert change(running, Transition.TRANSITION_CONFIGURE)
    serve_one_while_active(running, 1)
    node = running.node  # other tests may have left theirs
    parts = [x for x in gc.get_objects() if type(x) in (FrameServer, Inputs) and x._node is node]
    before = [weakref.ref(part) for part in parts]
    del parts
    serve_one_while_active(running, 2)
    assert len(before) >= 2
    assert [part() for part in before] == [None] * len(before)


def test_an_impossible_transition_is_refused(bench):
    running = bench(hear=(RELATIVE,))
    assert not change(running, Transition.TRANSITION_ACTIVATE)
    assert not change(running, Transition.TRANSITION_CONFIGURE)
    assert state(running) == State.PRIMARY_STATE_ACTIVE
    running.send(SECOND)
    running.wait_received('relative/image')


def test_states_and_parameters_answer_while_the_model_loads(bench):
    loading, go_on = threading.Event(), threading.Event()

    def load(_config):
        loading.set()
        assert go_on.wait(10)
        return running.model

    running = bench(autostart=False, load_model=load)
    client = running.robot.node.create_client(ChangeState, '/marigold_depth/change_state')
    assert client.wait_for_service(5)
    configure = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    answer = client.call_async(configure)
    assert loading.wait(5)
    assert state(running) == State.TRANSITION_STATE_CONFIGURING
    assert not change(running, Transition.TRANSITION_CONFIGURE)
    go_on.set()
    running.wait_for(answer.done)
    assert answer.result().success
    assert state(running) == State.PRIMARY_STATE_INACTIVE


@pytest.mark.parametrize('error', [CheckpointError('no checkpoint there'), ZeroDivisionError()])
def test_a_model_that_fails_to_load_leaves_unconfigured(bench, error):
    def load(_config):
        if broken:
            raise error
        return running.model

    broken = True
    running = bench(autostart=False, load_model=load)
    assert not change(running, Transition.TRANSITION_CONFIGURE)
    assert state(running) == State.PRIMARY_STATE_UNCONFIGURED
    broken = False
    assert change(running, Transition.TRANSITION_CONFIGURE)


@pytest.mark.parametrize(
    ('of', 'failing'),
    [
        ('/camera/image_raw.subscription', Transition.TRANSITION_ACTIVATE),
        ('/marigold_depth/points.publisher', Transition.TRANSITION_CONFIGURE),
    ],
)
def test_a_transition_that_fails_leaves_nothing_behind(bench, of, failing):
    running = bench({f'qos_overrides.{of}.reliability': 'wrong'}, autostart=False)
    if failing == Transition.TRANSITION_ACTIVATE:
        assert change(running, Transition.TRANSITION_CONFIGURE)

    def left():
        topics = [p.topic_name for p in running.node.publishers]
        topics += [s.topic_name for s in running.node.subscriptions]
        return topics, sorted(
            t.name for t in threading.enumerate() if t.name in ('frames', 'finish')
        )

    before = left()
    assert not change(running, failing)
    assert left() == before
    activating = failing == Transition.TRANSITION_ACTIVATE
    states = State.PRIMARY_STATE_UNCONFIGURED, State.PRIMARY_STATE_INACTIVE
    assert state(running) == states[activating]
    assert (running.node._pipeline is None) != activating


def test_deactivate_finishes_a_frame_and_counts_the_next(bench, monkeypatch):
    running = bench(hear=(RELATIVE,))
    running.model.gate.clear()
    running.send(SECOND)
    assert running.model.started.acquire(timeout=30)
    running.send(2 * SECOND)
    close = Mailbox.close

    def close_then_let_it_finish(mailbox):
        waiting = close(mailbox)
        running.model.gate.set()
        return waiting

    monkeypatch.setattr(Mailbox, 'close', close_then_let_it_finish)
    assert change(running, Transition.TRANSITION_DEACTIVATE)
    frames = running.wait_quiet(2)
    assert frames['frames.served'] == 1
    assert frames['frames.rejected.deactivated'] == 1


def test_deactivate_waits_for_no_scan(bench):
    running = bench({'lidar.wait': 2.0, 'compute_without_listeners': True})
    running.send(SECOND, scan=False)
    assert running.model.started.acquire(timeout=30)
    assert change(running, Transition.TRANSITION_DEACTIVATE)
    assert running.wait_quiet(1)['frames.served'] == 1
    assert running.node.health.timings.last_s('pair') < 2.0


@pytest.mark.parametrize('by', ['reset', 'a reset that fails', 'reload', 'activation'])
def test_a_reset_another_model_and_an_activation_forget_the_fit(bench, monkeypatch, by):
    running = bench({'alignment.hold_limit': 60.0}, hear=(RELATIVE,))
    running.send(SECOND)
    running.wait_quiet(1)
    assert running.node.health.alignment.state == 'fitted'
    if by == 'activation':
        assert change(running, Transition.TRANSITION_DEACTIVATE)
        assert change(running, Transition.TRANSITION_ACTIVATE)
        running.wait_connected(1)
    else:
        assert running.call(Trigger, 'reload' if by == 'reload' else 'reset').success
    if fails := by == 'a reset that fails':  # it is tried again before the next image
        with monkeypatch.context() as broken:
            broken.delattr(FramePipeline, 'state')
            running.send(SECOND, scan=False)
            assert running.wait_quiet(2)['frames.rejected.internal'] == 1
    # Of the scans too, but for a reload, after which the one that is there fits no more.
    running.send(SECOND + (SECOND if by == 'reload' else 1000), scan=False)
    running.wait_quiet(2 + fails)
    assert running.node.health.alignment.state == 'none'


def test_reload_swaps_the_model_or_keeps_the_old_one(bench):
    loaded = []

    def load(config):
        loaded.append(config.model.model)
        if config.model.model == 'missing':
            raise CheckpointError('there is no checkpoint missing; choose tiny')
        return running.model

    running = bench(hear=(RELATIVE,), load_model=load, autostart=False)
    running.node.autostart()
    running.wait_connected(1)
    running.configure(model='missing')
    answer = running.call(Trigger, 'reload')
    assert not answer.success
    assert 'choose tiny' in answer.message
    running.configure(model='other')
    assert running.call(Trigger, 'reload').success
    assert loaded == ['unet', 'missing', 'other']
    running.send(SECOND)
    assert running.wait_quiet(1)['frames.served'] == 1


def test_settings_are_for_the_model_that_was_reloaded_before_a_frame_uses_it(bench):
    def of_one_step(options):
        if options.denoising_steps != 1:
            raise ConfigurationError('give one step')

    def load(config):
        model = type(running.model)()
        if config.model.model == 'unet':
            model.check_options = of_one_step
        return model

    settings = {'denoising_steps': 1}
    running = bench(settings, hear=(RELATIVE,), load_model=load, autostart=False)
    running.node.autostart()
    assert not running.configure(denoising_steps=4)
    running.configure(model='other')
    assert running.call(Trigger, 'reload').success
    assert running.configure(denoising_steps=4)


def test_until_the_reload_the_model_keeps_the_settings_that_it_takes(bench):
    asked = []

    def refuse(options):
        if options.ensemble_size != 1:
            raise ConfigurationError('it answers in one pass')

    def load(config):
        model = type(running.model)()
        answer = model.predict
        model.check_options = refuse if config.model.model == 'unet' else lambda options: None
        model.predict = lambda rgb, **given: asked.append(given['ensemble_size']) or answer(rgb)
        return model

    running = bench({'ensemble_size': 1}, hear=(DEPTH,), load_model=load, autostart=False)
    running.node.autostart()
    running.wait_connected(1)
    running.configure(model='other')
    assert running.configure(ensemble_size=4, depth_encoding='16UC1')
    for number in (1, 2):
        running.send(number * SECOND)
        assert running.wait_quiet(number)['frames.served'] == number
    assert running.wait_received(DEPTH, 2)[-1].encoding == '16UC1'
    assert running.call(Trigger, 'reload').success
    running.send(3 * SECOND)
    running.wait_quiet(3)
    assert asked == [1, 1, 4]


def test_reload_takes_the_folder_of_an_adapted_model_with_its_fusion_network(bench, tmp_path):
    adapted = tmp_path / 'my_robot'
    shutil.copytree(EMBEDDED / 'tiny', adapted)
    shutil.copytree(EMBEDDED / FUSION, adapted / FUSION)
    models = []
    running = bench(
        {'runtime.backend': 'torch'},
        hear=(RELATIVE,),
        load_model=lambda config: models.append(load(config)) or models[-1],
    )
    running.configure(model=str(adapted))
    running.node.health.gaps.append(9.0)  # of the model before
    assert running.call(Trigger, 'reload').success
    running.send(SECOND)
    assert running.wait_quiet(1)['frames.served'] == 1
    values = running.status('model')[2]
    assert values['path'] == str(adapted)
    assert 0.0 <= float(values['domain_gap']) <= 1.0
    assert fusion_of(models[-1], 'auto').folder == (adapted / FUSION).resolve()


@pytest.mark.parametrize('moment', ['inactive', 'active, without a frame since', 'never active'])
def test_a_reloaded_model_serves_after_the_next_activation(bench, moment):
    models = {}

    def load(config):
        models[config.model.model] = model = type(running.model)()
        return model

    running = bench(hear=(RELATIVE,), load_model=load, autostart=False)
    assert change(running, Transition.TRANSITION_CONFIGURE)
    if moment != 'never active':
        assert change(running, Transition.TRANSITION_ACTIVATE)
    if moment == 'inactive':
        assert change(running, Transition.TRANSITION_DEACTIVATE)
    running.configure(model='other')
    answer = running.call(Trigger, 'reload')
    assert answer.success
    assert ('once activated' in answer.message) == (not moment.startswith('active'))
    if moment.startswith('active'):
        assert change(running, Transition.TRANSITION_DEACTIVATE)
    serve_one_while_active(running, 1)
    assert (models['unet'].calls, models['other'].calls) == (0, 1)


def test_a_model_that_comes_while_another_is_taken_over_is_the_next():
    class Pipeline:
        def __setattr__(self, name, model):
            super().__setattr__(name, model)
            if model == 'second':  # before the swap is over
                server.next_model.append('third')

    node, pipeline = SimpleNamespace(health=Health()), Pipeline()
    server = FrameServer(node, pipeline, None, None, None)
    server.next_model.append('second')
    for model in ('second', 'third', 'third'):
        server.swap_now()
        assert pipeline.model == model


def test_reload_and_reset_claim_nothing_that_waits_for_an_activation(bench):
    loaded = []

    def load(config):
        loaded.append(config.model.model)
        return type(running.model)()

    running = bench({'unload_on_deactivate': True}, load_model=load, autostart=False)
    running.node.autostart()
    assert change(running, Transition.TRANSITION_DEACTIVATE)
    running.configure(model='other')
    running.node.health.gaps.append(0.9)
    answer = running.call(Trigger, 'reload')
    assert (answer.success, 'no model is loaded' in answer.message) == (False, True)
    answer = running.call(Trigger, 'reset')
    assert (answer.success, answer.message) == (False, 'not active')
    assert change(running, Transition.TRANSITION_ACTIVATE)
    assert loaded == ['unet', 'other']
    assert running.status('model')[2]['domain_gap'] == 'unknown'  # no image of the other yet


def test_fused_depth_is_refused_where_its_network_cannot_be_loaded(bench):
    settings = {'alignment.method': 'global', 'alignment.fusion': '/no/such/folder'}
    running = bench(settings, hear=(DEPTH,))
    (refused,) = running.node.set_parameters([Parameter('alignment.method', value='fused')])
    assert (refused.successful, '/no/such/folder' in refused.reason) == (False, True)
    assert running.configure(alignment__min_points=20)
    running.send(SECOND)
    assert running.wait_quiet(1)['frames.served'] == 1
    assert running.configure(alignment__fusion='none', alignment__method='fused')


def test_an_image_without_its_fusion_network_is_counted_as_of_the_checkpoint(bench, tmp_path):
    folder = shutil.copytree(EMBEDDED / FUSION, tmp_path / FUSION)
    running = bench({'alignment.method': 'global', 'alignment.fusion': str(folder)})
    assert running.configure(alignment__method='fused', compute_without_listeners=True)
    shutil.rmtree(folder)
    running.send(SECOND)
    assert running.wait_quiet(1)['frames.rejected.checkpoint'] == 1


def test_reload_reads_the_fusion_network_too(bench, tmp_path):
    folder = shutil.copytree(EMBEDDED / FUSION, tmp_path / FUSION)
    running = bench(
        {'alignment.fusion': str(folder)},
        hear=(DEPTH,),
        load_model=lambda config: type(running.model)(),
        autostart=False,
    )
    running.node.autostart()
    running.wait_connected(1)
    running.send(SECOND)
    before = running.wait_received('depth/image_rect')[0]
    path, other = folder / 'model.safetensors', tmp_path / 'other.safetensors'
    weights = load_file(path)
    save_file({**weights, 'head.weight': 0.5 * weights['head.weight']}, other)
    path.write_bytes(b'cut off')
    answer = running.call(Trigger, 'reload')
    assert (answer.success, 'cannot be loaded' in answer.message) == (False, True)
    running.send(2 * SECOND)
    assert running.wait_received('depth/image_rect', 2)[1].data == before.data
    shutil.copy(other, path)
    assert running.call(Trigger, 'reload').success
    running.send(3 * SECOND)
    assert running.wait_received('depth/image_rect', 3)[2].data != before.data


def test_reload_is_refused_while_a_transition_goes_on(bench):
    running = bench()
    with running.node.transition_lock:
        assert not running.call(Trigger, 'reload').success
    assert running.call(Trigger, 'reload').success


def test_a_reset_is_answered_while_a_model_is_reloaded(bench):
    loading, go_on = threading.Event(), threading.Event()

    def load(_config):
        loading.set()
        assert go_on.wait(60)
        return type(running.model)()

    running = bench(load_model=load, autostart=False)
    go_on.set()
    running.start()
    loading.clear()
    go_on.clear()
    client = running.robot.node.create_client(Trigger, '/marigold_depth/reload')
    assert client.wait_for_service(5)
    reloaded = client.call_async(Trigger.Request())
    assert loading.wait(30)
    try:
        assert running.call(Trigger, 'reset').success
        assert not reloaded.done()
    finally:
        go_on.set()
    running.wait_for(reloaded.done)
    assert reloaded.result().success


def test_services_answer_before_the_node_is_configured(bench):
    running = bench(autostart=False)
    for name, reason in (('reset', 'not active'), ('reload', 'no model is loaded')):
        answer = running.call(Trigger, name)
        assert (answer.success, reason in answer.message) == (False, True)


@pytest.mark.parametrize('between', ['nothing', 'a reset', 'a setting', 'a model'])
def test_beside_a_gpu_an_image_is_predicted_while_the_last_one_waits_for_its_scan(
    bench, monkeypatch, between
):
    monkeypatch.setattr(FrameServer, 'overlaps', lambda _self: True)
    running = bench({'lidar.wait': 2.0}, hear=(RELATIVE,))
    running.send(SECOND, scan=False)
    assert running.model.started.acquire(timeout=30)
    if between == 'a reset':
        assert running.call(Trigger, 'reset').success
    if between == 'a setting':
        assert running.configure(alignment__method='global')
    if between == 'a model':
        assert running.call(Trigger, 'reload').success
    running.send(2 * SECOND, scan=False)
    if between != 'nothing':
        assert not running.model.started.acquire(timeout=0.2)
        running.robot.lidar.publish(running.robot.scan_of_plane(SECOND))
    assert running.model.started.acquire(timeout=30)
    # What changes holds from one image to the next: the first is finished before.
    assert running.count('frames.served') == (between != 'nothing')
    running.robot.lidar.publish(running.robot.scan_of_plane(2 * SECOND))
    found = running.wait_received(RELATIVE, 2)
    assert [header_ns(message) for message in found] == [SECOND, 2 * SECOND]


def test_an_idle_executor_sees_an_end_of_its_context_that_woke_nobody():
    # As rclpy's signal thread ends it, which wakes the executor before and not after.
    with own_context() as context:
        node = ManagedNode('idle', context=context, use_global_arguments=False)
        executor = threaded_executor(context, 2)
        executor.add_node(node)
        thread = threading.Thread(target=spin, args=(executor,), daemon=True)
        thread.start()
        with context.handle:
            context.handle.shutdown()
        thread.join(10)
        assert not thread.is_alive()


def test_a_destroyed_node_is_gone_after_the_transition_in_work():
    class Destroyed(ManagedNode):
        @transition()
        def on_configure(self):
            self.destroy_node()

    configure = Transition(id=Transition.TRANSITION_CONFIGURE)
    with own_context() as context, own_node('viewer', context) as viewer:
        node = Destroyed('gone', context=context, use_global_arguments=False)
        offered = {service.srv_name.split('/')[-1]: service.callback for service in node.services}
        change, get = offered['change_state'], offered['get_state']
        assert 'gone' in viewer.get_node_names()
        assert change(ChangeState.Request(transition=configure), ChangeState.Response()).success
        # Services that are still offered would be called, and answer nothing.
        assert 'gone' not in viewer.get_node_names()
        with pytest.raises(RuntimeError, match='destruction was requested'):
            get(GetState.Request(), GetState.Response())
