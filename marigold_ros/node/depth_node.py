# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The ROS 2 node: a lifecycle node around FramePipeline.

Decision: callbacks run in a MultiThreadedExecutor, frames in worker threads, and loading in the
thread of the transition, so that parameters, services and state queries answer meanwhile.
``autostart`` is a parameter and not a launch feature, so that it works alike everywhere.
"""

from collections.abc import Callable, Sequence
from functools import partial
import gc
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from marigold_ros.config import NodeConfig
from marigold_ros.errors import ConfigurationError
from marigold_ros.models.protocol import DepthModel
from marigold_ros.node import diagnostic_keys as keys
from marigold_ros.node.diagnostics import diagnostics, warnings_of
from marigold_ros.node.distro import STEADY, watch_clock
from marigold_ros.node.frame_server import FrameServer
from marigold_ros.node.health import cuda_in_use, Health, WarningLog
from marigold_ros.node.interface import parameters
from marigold_ros.node.interface.publishers import Outputs
from marigold_ros.node.interface.subscriptions import Inputs
from marigold_ros.node.interface.transforms import Extrinsics
from marigold_ros.node.lifecycle import ManagedNode, tolerant, transition
from marigold_ros.node.loading import check_model, load, Loader
from marigold_ros.node.ros_helpers import FILTERS, ImageReader
from marigold_ros.node.worker import Worker
from marigold_ros.pipeline import FramePipeline
from marigold_ros.settings import build
from marigold_ros.sparse_sources import GROUND, source_names
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_srvs.srv import Trigger

# SIGINT must end the process within 4 s on a busy machine too: a frame in work gets these seconds.
PATIENCE = 1.5


class DepthNode(ManagedNode):
    """
    The node ``marigold_depth``; see docs/ros-interface.md for topics and services.

    ``inherited`` are parameter overrides that hold where none are given for this node, ``options``
    arguments of rclpy's Node.
    """

    def __init__(
        self,
        load_model: Callable[[NodeConfig], DepthModel] = load,
        inherited: Sequence = (),
        **options,
    ) -> None:
        super().__init__('marigold_depth', inherited, **options)
        self._loader = Loader(load_model, self.get_logger())
        if warning := parameters.declare(self):
            self.get_logger().warning(warning)
        self.health = Health()
        # Of parameters, and made of them: one field, as several threads write it.
        self._settings: tuple[dict[str, Any], NodeConfig] = {}, NodeConfig()
        # Created by configure or activate, released by deactivate or cleanup.
        self._pipeline: Any = None
        self._outputs: Any = None
        self._extrinsics: Any = None
        self._images: Any = None
        self._diagnostics: Any = None
        self._inputs: Any = None
        self._server: Any = None
        self._worker: Any = None
        self._clock_watch: Any = None
        self._warning_log = WarningLog()
        self._active = False  # the former server and inputs stay until the next activation
        self._own_timers: list = []
        self._timer_group = MutuallyExclusiveCallbackGroup()
        # A reset is answered while a model is loaded.
        for name, answer in (('~/reset', self._on_reset), ('~/reload', self._on_reload)):
            group = MutuallyExclusiveCallbackGroup()
            self.create_service(Trigger, name, answer, callback_group=group)
        self.add_on_set_parameters_callback(partial(parameters.refuse_bad_values, self))

    # Transitions

    @transition(undo='_release')
    def on_configure(self) -> None:
        """Read the parameters, load the model, create the publishers."""
        values = parameters.values_of(self)
        self._settings = values, build(NodeConfig, values)
        self._make_pipeline()
        self._outputs = Outputs(self)
        self._outputs.open()
        sources = source_names(self._config.sparse_source)
        self._extrinsics = Extrinsics(
            self,
            self._config.extrinsics,
            self._config.lidar.fixed_frame,
            more_frames=GROUND in sources or len(sources) > 1,
        )
        self._images = ImageReader()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.get_logger().info(
            f'extrinsics: {self._extrinsics.source}; message_filters: {FILTERS}; '
            f'cv_bridge: {self._images.state}'
        )

    @transition(undo='_stop')
    def on_activate(self) -> None:
        """Subscribe and start the worker."""
        self.current_config()  # it may have changed while inactive
        if self._pipeline is None:
            self._make_pipeline()
        self._pipeline.reset()
        self.health.gaps.clear()  # of another model, maybe
        self._inputs = Inputs(
            self, self._config, self.health, self._images, self._on_image, self._on_jump
        )
        self._server = FrameServer(
            self, self._pipeline, self._inputs, self._outputs, self._extrinsics
        )
        self._worker = Worker(
            self._server.predict,
            self._server.finish,
            self._shortest_period,
            self._server.overlaps,
        )
        self._inputs.open()
        self._warning_log = WarningLog()
        self._clock_watch = watch_clock(self, self._on_clock_jump)
        self._own_timers = [
            # With use_sim_time the ROS clock may stand still: that is to be reported, too.
            self.create_timer(1.0, tolerant(self, work), self._timer_group, STEADY)
            for work in (self._inputs.refresh_qos, self.publish_diagnostics)
        ]
        self._active = True
        # Inputs and worker of the activation before refer to each other in circles, which would
        # hold their images for minutes.
        gc.collect()
        self.get_logger().info(
            'active: ' + ', '.join(f'{item.name} {item.topic}' for item in self._inputs.inputs)
        )

    @transition()
    def on_deactivate(self) -> None:
        """Stop working; keep the model unless ``unload_on_deactivate`` is set."""
        self._stop()
        if self.current_config().unload_on_deactivate:
            self._drop_pipeline()

    @transition()
    def on_cleanup(self) -> None:
        """Release everything that configure created."""
        self._release()

    # From any state: stop for good, or fall back to unconfigured.
    on_shutdown = on_error = on_cleanup

    def _release(self) -> None:
        self._stop()
        for item in (self._outputs, self._extrinsics):
            if item is not None:
                item.close()
        if self._diagnostics is not None:
            self.destroy_publisher(self._diagnostics)
        self._outputs = self._extrinsics = self._diagnostics = None
        self._drop_pipeline()

    def _stop(self, patience: float | None = None) -> None:
        """Stop after the frame in work; with ``patience``, within that many seconds."""
        self._active = False
        for timer in self._own_timers:
            self.destroy_timer(timer)
        self._own_timers = []
        if self._clock_watch is not None:
            self._clock_watch.unregister()
        self._clock_watch = None
        if self._inputs is not None:
            self._inputs.close()
        if self._worker is not None and self._worker.close(patience) is not None:
            self.health.counters.leave_frame(keys.FRAMES_DEACTIVATED)
        if self._server is not None and not self._worker.alive:
            self._server.swap_now()

    def _make_pipeline(self) -> None:
        """Load the model, warmed up, with the current settings."""
        self._pipeline = FramePipeline(self._loader.load(self._config), self._config.pipeline)

    def _drop_pipeline(self) -> None:
        """Release the model's memory, and with it whatever holds the model."""
        self._pipeline = self._server = self._worker = self._inputs = None
        gc.collect()
        if cuda := cuda_in_use():
            cuda.empty_cache()

    def stop(self, patience: float = PATIENCE) -> bool:
        """Stop before the process ends; returns False if a frame is still in work."""
        self._stop(patience)
        return self._worker is None or not self._worker.alive

    # Facts for the process and for trials

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that share the model; empty for one camera."""
        # Other values are read at configure only, and may be corrected until then.
        given = parameters.values_of(self).get('cameras', ())
        return parameters.config_of(self).cameras if given else ()

    def listeners(self) -> dict[str, int]:
        """Return the number of subscribers of each output; empty unless configured."""
        return {} if self._outputs is None else self._outputs.listeners()

    def refresh_inputs(self) -> None:
        """Compare the inputs with the publishers' QoS now, not within a second."""
        self._inputs.refresh_qos()

    # Frames

    def _on_image(self, message) -> None:
        """Put an image with a valid header into the worker's mailbox."""
        counters = self.health.counters
        idle = not self._outputs.has_listeners()
        if idle and not self.current_config().compute_without_listeners:
            counters.leave_frame(keys.FRAMES_IDLE)
            return
        replaced = self._worker.mailbox.put(message)
        if replaced is not None:
            counters.leave_frame(keys.FRAMES_DROPPED)

    def current_config(self) -> NodeConfig:
        """Return the settings; read before each frame, so that a change is applied as a whole."""
        values, (known, config) = parameters.values_of(self), self._settings
        if values != known:
            try:
                config = build(NodeConfig, values)
            except ConfigurationError:
                return config  # read amid a change; the next frame reads all of it
            self._settings = values, config
        return config

    @property
    def _config(self) -> NodeConfig:
        return self._settings[1]

    def check_with_model(self, config: NodeConfig) -> None:
        """Raise MarigoldError if the model in use refuses settings for it, or lacks fusion."""
        pipeline = self._pipeline
        if pipeline is not None and config.model == self._loader.loaded:
            coming = () if self._server is None else tuple(self._server.next_model)
            model = coming[0] if coming else pipeline.model
            check_model(model, config)
            wanted, before = config.pipeline.alignment, self.current_config().pipeline.alignment
            if wanted.method == 'fused' != before.method:
                from marigold_ros.models.fusion.load import fusion_of

                fusion_of(model, wanted.fusion)

    def _shortest_period(self) -> float:
        rate = self.current_config().max_rate
        return 1.0 / rate if rate > 0 else 0.0

    def _on_jump(self, reason: str) -> None:
        """Empty all buffers and reset the temporal state, as stamps or the ROS clock jumped."""
        self.health.counters.add(keys.CLOCK_JUMPS)
        self.health.report('clock', f'{reason}: buffers and filters start anew')
        self._inputs.clear()
        self._extrinsics.clear()
        self._server.reset_wanted = True

    def _on_clock_jump(self, _jump) -> None:
        several = self.count_publishers('/clock') > 1
        self._on_jump(f'ROS time jumped{", and /clock has several publishers" if several else ""}')

    # Services and diagnostics

    def _on_reset(self, _request, response):
        response.success = self._active
        response.message = 'filters and buffers are empty' if response.success else 'not active'
        if response.success:
            self._inputs.clear()
            self._server.forgets_mounting = self._server.reset_wanted = True
        return response

    def _on_reload(self, _request, response):
        if not self.transition_lock.acquire(blocking=False):
            response.success, response.message = False, 'a transition is going on; try again'
            return response
        try:
            response.success, response.message = self._reload()
        finally:
            self.transition_lock.release()
        return response

    def _reload(self) -> tuple[bool, str]:
        """Load the parameters' model; the current one stays if that fails."""
        if self._pipeline is None:
            return False, (
                'no model is loaded: the node loads the one that the parameters name when it is '
                'configured, or activated after unload_on_deactivate'
            )
        model, answer = self._loader.try_to_load(lambda: parameters.config_of(self))
        if model is None:
            return False, answer
        if not self._active:
            self._pipeline.model = model
            return True, f'{answer} once activated'
        self._server.next_model.append(model)
        return True, f'{answer} from the next frame on'

    def publish_diagnostics(self) -> None:
        """Publish the diagnostics of now, and log what is new in them; done once a second."""
        if self._diagnostics is not None and self._inputs is not None:
            if self._inputs.image.rate.hertz and not self.get_clock().now().nanoseconds:
                remedy = 'play the bag with --clock, or set use_sim_time to false'
                self.health.report('clock', f'images come, but no /clock: {remedy}')
            parts = (self._inputs, self._outputs, self._extrinsics)
            message = diagnostics(self, *parts, self._loader.description, self._config)
            self._diagnostics.publish(message)
            warnings, ends = self._warning_log.update(warnings_of(message), time.monotonic())
            for line in warnings:
                self.get_logger().warning(line)
            for line in ends:
                self.get_logger().info(line)
