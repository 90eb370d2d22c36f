# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Files that mean harm end in sentences, in bounded time and memory; sound parts are read."""

import io
from itertools import islice
import json
import os
from pathlib import Path
import shutil
import signal
import socket
import subprocess
import sys

import cv2
from hostile_bags import BAGS, good_messages, mcap_of, write_good
from hostile_bags import IMAGES as COUNT
from hostile_images import IMAGES
import hostile_reading
from marigold_ros.bags import limited
from marigold_ros.bags.limited import look
from marigold_ros.bags.reader import BagReader
from marigold_ros.errors import BagError, InputError
from marigold_ros.evaluation.results.shared_frames import read_run
from marigold_ros.image_sets.decode import decode_depth_file
from marigold_ros.node.interface.launch_arguments import topics_of_bag
from marigold_ros.replay.photos import open_video, read_image
from marigold_ros.replay.video_writer import VideoWriter
import mutations
import numpy as np
import pytest

FILES = {**BAGS, **{f'{name}{end}': (end, make) for name, (end, make) in IMAGES.items()}}
# How many images of the six can be read all the same, where it is not none.
SOUND = {
    **dict.fromkeys(['chunk_bomb', 'lying_chunk', 'many_fields'], COUNT),
    **dict.fromkeys(['yaml_aliases', 'yaml_merges', 'yaml_comment', 'yaml_depth'], COUNT),
    'message_bomb': COUNT - 1,
    # An image whose stamp is that of the newest one is refused.
    'same_chunk': COUNT,
    'overlapping_chunks': 3 * COUNT - 2,
    'many_chunks': COUNT,
}
# These end by the limit of time, or need a while to be made.
LONG = {'type_fields', 'many_channels', 'long_qos', 'yaml_depth', 'same_chunk', 'ros1_bomb'}
LONG |= {'overlapping_chunks', 'many_chunks', 'large_png', 'large_png.png'}
QUICK = sorted(set(FILES) - LONG - {'message_bomb', 'file_bomb', 'many_fields'})


def make(name, folder, size):
    made = FILES[name]
    if not isinstance(made, tuple):
        return made(folder, size)
    path = folder / f'image{made[0]}'
    path.write_bytes(made[1](size))
    return path


def check(name, reading):
    assert reading['said']
    assert reading['images'] == SOUND.get(name, 0)
    assert all(len(text) < 3000 and '\n' not in text for text in reading['said'])


@pytest.mark.parametrize('name', QUICK)
def test_it_ends_in_a_sentence_and_keeps_what_is_sound(name, tmp_path):
    check(name, vars(hostile_reading.read(make(name, tmp_path, 0.05))))


@pytest.fixture(scope='module')
def sound_bags(tmp_path_factory):
    return mutations.KINDS['bags'].make(tmp_path_factory.mktemp('sound'))


# A circle of rows, a topic without a name, words for a number of messages, a stamp named Stamp.
@pytest.mark.parametrize('seed', [27, 1000044, 8001744, 8004469])
def test_seeds_that_ended_badly_once_do_so_no_more(sound_bags, tmp_path, seed):
    kind = mutations.KINDS['bags']
    path = mutations.damaged(kind, sound_bags, seed, tmp_path)
    found, details = mutations.outcome(kind, path)
    assert found == 'said', details


# A new process takes ru_maxrss over from the one that starts it, which here may once have held
# gigabytes; so a small one stands between, whose children's usage is theirs alone.
_MEASURE = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, *sys.argv[1:]]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""


def measured(*arguments):
    """Run Python; return its output, its seconds of a processor and its peak memory in kB."""
    command = [sys.executable, '-c', _MEASURE, *arguments]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-2000:]
    text, _, used = child.stdout.rstrip().rpartition('\n')
    return text, *map(float, used.split())


@pytest.mark.slow  # 28 attacks of full size, up to 7 GB each
@pytest.mark.parametrize('name', FILES)
def test_the_whole_attack_takes_neither_20_s_nor_2_gb(name, tmp_path):
    path = make(name, tmp_path, 1.0)
    text, seconds, memory_kb = measured(hostile_reading.__file__, path)
    check(name, json.loads(text.splitlines()[-1]))
    assert seconds < 20  # a busy machine takes longer by the clock
    assert memory_kb < 2_000_000


@pytest.mark.slow  # of the measure that whole attacks are judged by
def test_the_memory_of_an_attack_is_its_own():
    size = 300_000_000
    np.ones(size, np.uint8)  # and freed
    _, _, memory_kb = measured('-c', 'pass')
    assert memory_kb < size / 2 / 1024
    _, _, memory_kb = measured('-c', f'bytearray(b"1" * {size})')
    assert memory_kb > size / 1024


@pytest.mark.parametrize(
    'sign', ['%20', '#', *(pytest.param(sign, marks=pytest.mark.slow) for sign in '?%')]
)
@pytest.mark.parametrize('storage', ['sqlite3', 'mcap'])
def test_a_path_may_have_any_sign(tmp_path, storage, sign):
    moved = write_good(tmp_path / 'bag', storage).rename(tmp_path / f'a{sign}b')
    assert hostile_reading.read(moved).images == COUNT
    assert [path.name for path in tmp_path.iterdir()] == [moved.name]
    if storage == 'sqlite3':  # the library would write elsewhere
        with pytest.raises(BagError, match='mcap'):
            write_good(tmp_path / f'c{sign}d', storage)
        assert [path.name for path in tmp_path.iterdir()] == [moved.name]


SHARES = pytest.mark.parametrize(
    'share', [0.4, 0.85, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.15, 0.6))]
)


def cut(path, at, count=446):
    data = path.read_bytes()
    path.write_bytes(data[:at] + data[at + count :])
    return path


def chunked(folder, **options):
    return mcap_of(good_messages(folder), **options).write(folder / 'bag.mcap')


@SHARES
@pytest.mark.parametrize('compression', ['', 'lz4', 'zstd'])
def test_after_a_gap_reading_goes_on_at_the_next_chunk(tmp_path, share, compression):
    path = chunked(tmp_path, compression=compression)
    path = cut(path, int(path.stat().st_size * share))
    reading = hostile_reading.read(path)
    assert reading.images >= COUNT - 2
    (said,) = {text for text in reading.said if 'messages can be read' in text}
    if share < 0.8:  # the statistics come after the chunks
        assert 'of 19 messages can be read' in said


@pytest.mark.parametrize('in_index', [False, True])
def test_damage_of_a_chunk_costs_that_chunk_only_and_is_counted(tmp_path, in_index):
    path = chunked(tmp_path)
    data = bytearray(path.read_bytes())
    # How a chunk's data begin, or the size that the index states of the last one.
    at = data.rindex(b'zstd') + 19 if in_index else data.index(b'\x28\xb5\x2f\xfd', len(data) // 3)
    data[at] ^= 0x10
    path.write_bytes(data)
    seen = set()
    with BagReader(path) as reader:
        messages = reader.raw(['/image'])
        words = f'1 of {COUNT} messages of /image are missing, cannot read 1 chunks'
        with pytest.raises(BagError, match=words):
            seen.update(log_ns for *_, log_ns in messages)
        assert len(list(reader.raw(['/tf_static']))) == 1
    assert hostile_reading.read(path).images == COUNT - 1
    data[data.index(b'\x28\xb5\x2f\xfd') - 53] = 2  # the first one has the code of a footer
    path.write_bytes(data)
    assert hostile_reading.read(path).images == COUNT - (not in_index)


@pytest.fixture
def ros1_bag(sound_bags, tmp_path):
    """Two chunks of three images each."""
    (path,) = [path for path in sound_bags if path.suffix == '.bag']
    return Path(shutil.copy(path, tmp_path))


@SHARES
def test_after_a_gap_a_bag_of_ros_1_goes_on_at_the_next_chunk(ros1_bag, share):
    path = cut(ros1_bag, int(ros1_bag.stat().st_size * share))
    reading = hostile_reading.read(path)
    assert reading.images == COUNT // 2
    assert any('and 3 messages can be read' in text for text in reading.said)


def test_damage_inside_a_chunk_of_ros_1_costs_that_chunk_only(ros1_bag):
    data = bytearray(ros1_bag.read_bytes())
    at = data.index(b'\x04\x22\x4d\x18')  # how data of LZ4 begin
    data[at : at + 4] = bytes(4)
    ros1_bag.write_bytes(data)
    with BagReader(ros1_bag) as reader:
        messages = reader.raw(['/image'])
        assert [log_ns for *_, log_ns in islice(messages, 3)] == [3 * 10**8, 4 * 10**8, 5 * 10**8]
        with pytest.raises(BagError, match='3 of 6 messages of /image are missing, cannot read 1'):
            next(messages)
    # A gap before the connection, which the second chunk does not hold.
    assert hostile_reading.read(cut(ros1_bag, data.rindex(b'op=\x04'), 8)).images == COUNT // 2


def test_a_bag_of_ros_1_whose_recording_was_killed_is_read(ros1_bag):
    data = ros1_bag.read_bytes()
    ros1_bag.write_bytes(data[: data.rindex(b'op=\x07') - 40])  # before what is written at its end
    reading = hostile_reading.read(ros1_bag)
    assert reading.images == COUNT
    assert any('repair it with `rosbag reindex`' in text for text in reading.said)


def test_messages_that_the_statistics_count_and_nobody_finds_are_missed(tmp_path):
    file = mcap_of(good_messages(tmp_path))
    file.counts[file.topics['/image']] += 2
    path = file.write(tmp_path / 'bag.mcap')
    with BagReader(path) as reader:
        with pytest.raises(BagError, match=f'2 of {COUNT + 2} messages of /image are missing'):
            list(reader.raw(['/image']))
        assert len(list(reader.raw(['/points']))) == COUNT


def test_a_look_that_hangs_or_dies_or_hoards_says_so(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    path.write_bytes(b'1')
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'looks.py').write_text(
        'import os, time\n'
        'def hang(path): time.sleep(100)\n'
        'def work(path):\n'
        '    import signal\n'
        '    signal.alarm(0)\n'  # which comes first on a busy machine
        '    while True: pass\n'
        'def die(path): os.abort()\n'
        'def hoard(path): return bytes(1 << 40)\n'
        'def deny(path): raise PermissionError(1, "denied")\n'
        'def fill(path):\n'
        '    import tempfile\n'
        '    with tempfile.TemporaryFile() as file:\n'
        '        file.truncate(1 << 40)\n'
    )
    for name, words, seconds in (
        ('hang', 'takes more than 3 s', 1.5),
        ('work', 'takes more than 2 s of a processor', 2.0),
        ('die', 'exit code -6', 8.0),
        ('hoard', '1 GB of memory', 8.0),
        ('deny', rf'{path} cannot be read \(denied\)', 8.0),
        ('fill', '256 MB of disk', 8.0),
    ):
        monkeypatch.setattr('marigold_ros.bags.limited.SECONDS', seconds)
        monkeypatch.setattr('marigold_ros.bags.limited.WAITING', 30.0 if name == 'work' else 2.0)
        with pytest.raises(Exception, match=words) as caught:
            look(f'looks:{name}', path)
        kind = 'MarigoldError' if name == 'deny' else 'LimitError'
        assert type(caught.value).__name__ == kind


def test_a_bag_is_read_where_the_user_may_not_raise_lower_limits(tmp_path):
    bag = mcap_of(good_messages(tmp_path)).write(tmp_path / 'bag.mcap')
    command = [sys.executable, '-m', 'marigold_ros', 'inspect', str(bag)]
    limited_shell = ['sh', '-c', 'ulimit -c 0; ulimit -f 9999; exec "$@"', 'sh']
    done = subprocess.run([*limited_shell, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ordinary_photos_are_read_whatever_their_scans(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    for end, options in (
        ('.jpg', [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ('.png', []),
        ('.tiff', []),
        ('.webp', []),
        ('.bmp', []),
    ):
        path = tmp_path / f'image{end}'
        path.write_bytes(cv2.imencode(end, rgb, options)[1].tobytes())
        assert read_image(path).shape == rgb.shape


def video(path, size=(64, 48), images=10):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10.0, size)
    rgb = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    for _ in range(images):
        writer.write(rgb)
    writer.release()
    return path


def test_images_that_a_video_has_lost_are_missed(tmp_path):
    path = video(tmp_path / 'video.avi')
    data = path.read_bytes()
    for part, lost in ((data, False), (data[: len(data) // 2], True)):
        path.write_bytes(part)
        with open_video(path) as found:
            count = len(list(found.images))
            assert bool(found.missing(count)) is lost is (count < 10)


def test_a_video_of_enormous_images_is_refused(tmp_path):
    path = video(tmp_path / 'video.avi', (8192, 4096), 1)
    with pytest.raises(InputError, match='8192x4096'), open_video(path):
        pass


def test_the_name_of_a_video_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.setblocking(False)
        path = Path(f'http:127.0.0.1:{server.getsockname()[1]}?.avi')
        video(tmp_path / 'video.avi').rename(path)
        with open_video(path) as found, VideoWriter(path.with_suffix('.mp4'), 10.0) as writer:
            for rgb in found.images:
                writer.add(rgb)
        assert writer.written == 10
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()


def test_a_video_that_the_codec_does_not_take_is_an_error_in_words(tmp_path):
    pytest.importorskip('av')
    writer = VideoWriter(tmp_path / 'a.mp4', 10.0)
    with pytest.raises(InputError, match='no video of 20000x2 px'), writer:
        writer.add(np.zeros((2, 20_000, 3), np.uint8))


def test_an_archive_of_arrays_is_no_depth():
    archive = io.BytesIO()
    np.savez(archive, np.ones((4, 4), np.float32))
    with pytest.raises(InputError, match='not an .npy file'):
        decode_depth_file(archive.getvalue(), 'depth.npy')


@pytest.mark.parametrize('name', ['pipe.mcap', 'pipe.db3', 'folder/pipe.mcap', 'pipe.png'])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    path = path.parent if path.parent != tmp_path else path
    assert 'pipe' in hostile_reading.read(path).said[0]


def test_a_folder_of_countless_files_is_no_bag(tmp_path):
    for number in range(limited.MOST_FILES + 1):
        (tmp_path / str(number)).touch()
    assert 'more than 10000 files' in hostile_reading.read(tmp_path).said[0]


@pytest.mark.parametrize(
    'make', [os.mkfifo, lambda path: path.symlink_to('/dev/zero'), Path.mkdir, 'large']
)
def test_results_without_an_end_are_not_read(tmp_path, make):
    path = tmp_path / 'results.json'
    if make == 'large':
        path.touch()
        os.truncate(path, 50_000_001)
    else:
        make(path)
    with pytest.raises(InputError, match='is no file, or has more than 50 MB'):
        read_run(tmp_path)


def test_metadata_that_yaml_cannot_read_has_no_topics(tmp_path):
    (tmp_path / 'metadata.yaml').write_text('[' * 2000)
    assert topics_of_bag(str(tmp_path)) == {}


@pytest.mark.slow  # waits four seconds
def test_a_look_ends_though_nobody_waits_for_it_any_more(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'looks.py').write_text('def read(path): return path.read_text()\n')
    child = subprocess.run(
        [sys.executable, '-m', limited.__name__, 'looks:read', '0', '1', tmp_path / 'pipe'],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert child.returncode == -signal.SIGALRM
