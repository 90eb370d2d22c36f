# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Fixtures that all tests share; threads wait passively, ROS stays on this machine.

Tests may run in several workers of pytest-xdist at once. Each has a ROS domain, a cache and one
thread of its own, and so have the processes that it starts.

`colcon test` runs the Python that colcon runs in, with the pytest of the distribution. Where that
Python lacks what the package needs, all tests are skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import functools
import gc
import importlib.util
import json
import os
from pathlib import Path
import pickle
import random
import resource
import signal
import subprocess
import sys

from marigold_ros.threads import settle_threads

# Before anything imports numpy, torch or rclpy.
settle_threads()
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
if os.environ.get('ROS_DISTRO') == 'humble':  # later releases warn of it
    os.environ.setdefault('ROS_LOCALHOST_ONLY', '1')
# As Humble always does: messages refuse fields of a wrong type or length.
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')
# Shared memory of processes that were killed can block others for ever.
os.environ.setdefault('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
# Parallel runs on one machine must never meet; 1 to 101 is free on every platform.
os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 101)))
WORKER = os.environ.get('PYTEST_XDIST_WORKER', '')  # gw0, gw1, …; empty where all tests run in one
if WORKER:
    # Workers inherit the domain of the process that starts them.
    domain = int(os.environ['ROS_DOMAIN_ID']) + int(WORKER.removeprefix('gw'))
    os.environ['ROS_DOMAIN_ID'] = str(domain % 101 + 1)
    # As many threads as cores in each worker would take turns on the same cores.
    for library in ('OMP', 'MKL', 'OPENBLAS'):
        os.environ.setdefault(f'{library}_NUM_THREADS', '1')

from marigold_ros.frame import Prediction  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM, CHROMEDRIVER = Path('/usr/bin/chromium'), Path('/usr/bin/chromedriver')
NEEDED = ('torch', 'diffusers', 'transformers', 'safetensors', 'rosbags', 'hypothesis')
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if not hasattr(pytest, 'version_tuple'):  # 6, of Humble's Ubuntu
    MISSING.append('pytest 7')
# Whether this is the pytest of requirements-dev.txt, and not that of a distribution.
PINNED = sys.prefix != sys.base_prefix and Path(pytest.__file__).is_relative_to(sys.prefix)

# A garbage collection visits so many in some 10 ms.
MANY_OBJECTS = 100_000

if MISSING:
    # Their conftests import what is missing.
    collect_ignore = [path.name for path in Path(__file__).parent.iterdir() if path.is_dir()]
else:
    from hypothesis import settings

    # Shared machines stall: a deadline per example would test the machine.
    settings.register_profile('whole', deadline=None, max_examples=50)
    settings.register_profile('quick', settings.get_profile('whole'), max_examples=10)
    settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE') or 'whole')


def pytest_configure(config: pytest.Config) -> None:
    """Make warnings errors, but not those of a distribution's versions and plugins."""
    if PINNED and config.pluginmanager.hasplugin('timeout'):
        config.addinivalue_line('filterwarnings', 'error')
        # Of the last transformers for Python 3.10.
        deprecated = 'ignore:`torch.jit.script` is deprecated:DeprecationWarning'
        config.addinivalue_line('filterwarnings', deprecated)
        # `gc.freeze` below hides from hypothesis what holds its own object.
        config.addinivalue_line('filterwarnings', 'ignore:It looks like `register_random`')


@pytest.hookimpl(hookwrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Import all modules of tests without a garbage collection: nothing of them is garbage."""
    gc.disable()
    yield
    gc.enable()
    _leave_out_what_stays()


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Leave out what a file's tests imported, once it is much; their fixtures are gone by then."""
    yield
    ended = nextitem is None or nextitem.fspath != item.fspath
    if ended and len(gc.get_objects(generation=2)) > MANY_OBJECTS:
        _leave_out_what_stays()


def _leave_out_what_stays() -> None:
    """
    Leave what has been imported out of garbage collections.

    Each would visit millions of objects of torch and of the tests, and a training run collects
    several times.
    """
    gc.collect()
    gc.freeze()


def _of_training(collector: pytest.Module) -> bool:
    return (ROOT / 'test' / 'training') in Path(str(collector.fspath)).parents


@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> object:
    """Skip modules of tests where packages are missing, without importing them."""
    if not isinstance(collector, pytest.Module):
        return None
    reason = ''
    if MISSING:
        reason = (
            f'Skipped: {", ".join(MISSING)} not installed for {sys.executable}: activate the '
            'environment of docs/getting-started.md and run `python -m colcon test`'
        )
    elif _of_training(collector) and importlib.util.find_spec('marigold_training') is None:
        reason = "Skipped: marigold_training is not installed: this is a robot's part alone"
    if not reason:
        return None
    from _pytest.reports import CollectReport

    return CollectReport(collector.nodeid, 'skipped', (str(collector.fspath), 0, reason), [])


@pytest.fixture
def hears_hangup() -> Iterator[None]:
    """Start processes that hear a closed terminal, also where these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope='session', autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep compiled networks for the tests that follow, and out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('cache')
        patch.setenv('XDG_CACHE_HOME', str(folder))
        yield folder


@pytest.fixture(scope='session', autouse=True)
def _bags_parsed_once() -> Iterator[None]:
    """
    Let the bag library parse each text and compile each type once, not whenever a bag is opened.

    Bags of tests have the same topics; each of hundreds would take a tenth of a second for them.
    """
    from rosbags.highlevel import anyreader
    from rosbags.rosbag2 import metadata, reader
    from rosbags.serde import utils
    from rosbags.typesys import get_types_from_msg
    from ruamel.yaml import YAML

    parsed = functools.cache(lambda text: pickle.dumps(YAML(typ='safe').load(text)))

    class ParsedOnce(YAML):
        def load(self, text: str) -> object:
            return pickle.loads(parsed(text))

    code = functools.cache(functools.partial(compile, filename='<type>', mode='exec'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, 'YAML', ParsedOnce)
        patch.setattr(reader, 'YAML', ParsedOnce)
        patch.setattr(anyreader, 'get_types_from_msg', functools.cache(get_types_from_msg))
        patch.setattr(utils, 'exec', lambda text, names: exec(code(text), names), raising=False)
        yield


@pytest.fixture
def looks_in_a_child() -> None:
    """Let a test look at files in a child with limits, as commands do."""


@pytest.fixture(autouse=True)
def _looks_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at files in this process: starting Python for each takes longer than most tests."""
    from marigold_ros.bags import limited

    def run_here(function: str, path: Path) -> str:
        module, _, name = function.partition(':')
        return getattr(importlib.import_module(module), name)(Path(os.path.abspath(path))) or ''

    child = 'looks_in_a_child' in request.fixturenames or 'hostile' in request.path.parts
    if not child:
        monkeypatch.setattr(limited, 'run_limited', run_here)


@pytest.fixture(autouse=True)
def _no_known_sizes(_cache: Path) -> None:
    """Let no node start with sizes of images that another test left: they choose its runtime."""
    for path in _cache.rglob('image_sizes.json'):
        path.unlink()


@pytest.fixture
def without_rclpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let imports of rclpy fail, also of modules that had it; after the test those are back."""
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    for name in [name for name in sys.modules if name.startswith('marigold_ros.live_run.')]:
        package, _, module = name.rpartition('.')
        monkeypatch.delattr(sys.modules[package], module)
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test of the cache itself an empty one."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'own_cache'))


@pytest.fixture
def held_by_another() -> Iterator[Callable[[Path], None]]:
    """Return a function that has another process write to a folder until the end of the test."""
    words = 'from marigold_ros.commands.terminal.options import own_folder; import sys; '
    words += 'own_folder(sys.argv[1]); print(flush=True); sys.stdin.read()'
    with contextlib.ExitStack() as processes:

        def hold(folder: Path) -> None:
            command = [sys.executable, '-c', words, str(folder)]
            pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
            process = processes.enter_context(subprocess.Popen(command, **pipes))
            processes.callback(process.kill)
            assert process.stdout.readline()

        yield hold


@pytest.fixture
def full_disk() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """Return a context in which files of this process end at so many bytes."""

    @contextlib.contextmanager
    def limited(most: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Folder of the real recordings beside the project; they are not shipped."""
    folder = ROOT.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip('the real recordings (../shared/data) are not on this machine')
    return folder


@pytest.fixture(scope='session')
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a checkpoint: the Marigold architecture, very small, random weights."""
    from diffusers import AutoencoderKL, MarigoldDepthPipeline, UNet2DConditionModel
    from marigold_ros.models.marigold.schedule import marigold_scheduler
    from safetensors.torch import save_file
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('checkpoints') / 'small'
    autoencoder = AutoencoderKL(
        down_block_types=('DownEncoderBlock2D',) * 4,
        up_block_types=('UpDecoderBlock2D',) * 4,
        block_out_channels=(8, 8, 16, 16),
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    unet = UNet2DConditionModel(
        in_channels=8,
        out_channels=4,
        down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
        up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=32,
        norm_num_groups=16,
    )
    MarigoldDepthPipeline(
        unet,
        autoencoder,
        marigold_scheduler(),
        text_encoder=None,
        tokenizer=None,
        prediction_type='depth',
        default_denoising_steps=1,
        default_processing_resolution=128,
    ).save_pretrained(folder)
    text = {'empty_text_embedding': torch.zeros(1, 2, 32)}
    save_file(text, folder / 'empty_text_embedding.safetensors')
    facts = {
        'space': 'depth',
        'noise': 'gaussian',
        'default_denoising_steps': 1,
        'default_ensemble_size': 1,
        'default_processing_pixels': 96 * 128,
    }
    (folder / 'marigold_ros.json').write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope='session')
def write_text_encoder() -> Callable[[Path], None]:
    """Give a function that adds a tiny CLIP text encoder and a tokenizer of two words."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    def write(folder: Path) -> None:
        torch.manual_seed(2)
        config = CLIPTextConfig(
            vocab_size=4,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
        CLIPTextModel(config).save_pretrained(folder / 'text_encoder')
        part = folder / 'tokenizer'
        part.mkdir()
        words = {'<|startoftext|>': 0, '<|endoftext|>': 1, 'a</w>': 2, 'a': 3}
        (part / 'vocab.json').write_text(json.dumps(words))
        (part / 'merges.txt').write_text('#version: 0.2\n')
        (part / 'tokenizer_config.json').write_text(
            json.dumps({'tokenizer_class': 'CLIPTokenizer', 'model_max_length': 8})
        )

    return write


class Ramp:
    """Answers with a ramp: far above, near below; can be sent to another process."""

    def __init__(self):
        self.description = {'name': 'ramp', 'path': '/nowhere', 'space': 'depth'}

    def predict(self, rgb, **options):
        ramp = np.linspace(1, 0, rgb.shape[0], dtype=np.float32)[:, None]
        return Prediction(np.repeat(ramp, rgb.shape[1], axis=1))


@pytest.fixture(scope='session')
def short_drive(tmp_path_factory):
    """Three images of 96x72 with LiDAR, true depth and transforms."""
    from marigold_ros.synthetic.drive.drive import write_drive

    folder = tmp_path_factory.mktemp('short_drive')
    return write_drive(folder / 'drive', frames=3, width=96, height=72)


@pytest.fixture(scope='session')
def changed_drive(short_drive):
    """
    Give a function that copies the drive, or another source, message by message.

    ``change(topic, message, log_ns)`` gives None to leave a message out, and else the topic, what
    its fields become (mapping of name to value) and the time of recording.
    """

    from marigold_ros.bags.reader import BagReader
    from marigold_ros.bags.writer import BagWriter

    def unchanged(topic, message, log_ns):
        return topic, {}, log_ns

    def copy(path, change=unchanged, storage='mcap', source=short_drive):
        with BagReader(source) as reader, BagWriter(path, storage) as bag:
            for topic, msgtype, data, log_ns in reader.raw(list(reader.topics)):
                message = reader.decode(data, msgtype)
                answer = change(topic, message, log_ns)
                if answer is None:
                    continue
                to, fields, at_ns = answer
                if not fields:
                    bag.write_raw(to, msgtype, bytes(data), at_ns)
                    continue
                bag.write(to, msgtype, {**plain(message), **fields}, at_ns)
        return path

    return copy


@pytest.fixture(scope='session')
def frozen_drive(changed_drive, tmp_path_factory):
    """The drive with the first of its three images in place of each."""
    first = []

    def change(topic, message, log_ns):
        if topic != '/camera/image_raw':
            return topic, {}, log_ns
        first.append(message.data)
        return topic, {'data': first[0]}, log_ns

    return changed_drive(tmp_path_factory.mktemp('frozen_drive') / 'drive', change)


def plain(message):
    """Give a message of the rosbags library as nested dictionaries."""
    if not hasattr(message, '__dataclass_fields__'):
        return [plain(item) for item in message] if isinstance(message, list) else message
    names = [name for name in message.__dataclass_fields__ if name.islower()]  # no constants
    names = [name for name in names if not name.startswith('__')]
    return {name: plain(getattr(message, name)) for name in names}


@pytest.fixture(scope='session')
def ramp():
    """Return the model that predicts a ramp."""
    return Ramp()


@pytest.fixture(scope='module')
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """One Chromium for the module; nothing of it is kept, nothing is downloaded."""
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
    if not (CHROMIUM.exists() and CHROMEDRIVER.exists()):
        pytest.skip('no browser: apt-get install chromium chromium-driver')
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        *('headless', 'no-sandbox', 'disable-gpu', 'disable-quic', 'no-first-run'),
        *('disable-background-networking', 'disable-component-update', 'disable-sync'),
        *('disable-dev-shm-usage', 'force-prefers-reduced-motion'),
        f'user-data-dir={tmp_path_factory.mktemp("profile")}',
    ):
        options.add_argument(f'--{flag}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    service = webdriver.ChromeService(str(CHROMEDRIVER))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()
