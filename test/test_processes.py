# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Jobs in several processes: order, errors, and ends that neither hang nor leave a process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from multiprocessing import active_children
import operator
import os
from pathlib import Path
import pickle
import signal
import subprocess
import sys
import time

from marigold_ros.errors import DamagedBagError, InputError, MarigoldError, UsageError
from marigold_ros.image_sets.decode import decode_image_file
from marigold_ros.processes import run_jobs, Stopped
import pytest

ROOT = Path(__file__).resolve().parents[2]
LONG = 3600.0  # seconds that no job of these tests may be waited for


@pytest.mark.parametrize('workers', [1, 3])
def test_answers_come_in_order(workers):
    jobs = [0.2, 0.0, 0.1, 0.0]
    with run_jobs(partial(operator.mul, 10), jobs, workers) as answers:
        assert list(answers) == [10 * job for job in jobs]
    assert not active_children()


@pytest.mark.parametrize('workers', [1, 2])
def test_an_error_is_the_jobs_own_and_ends_the_workers(workers):
    with (
        pytest.raises(InputError, match='x.png is cut off') as caught,
        run_jobs(partial(decode_image_file, name='x.png'), [b'', b''], workers) as answers,
    ):
        list(answers)
    assert caught.value.cause == 'truncated'
    assert not active_children()


def test_a_killed_worker_is_an_error_at_once():
    with (
        pytest.raises(MarigoldError, match=r'exit code -9.*fewer workers'),
        run_jobs(signal.raise_signal, [signal.SIGKILL] * 2, 2) as answers,
    ):
        list(answers)
    assert not active_children()


def test_workers_ignore_signals_to_the_run():
    jobs = [signal.SIGTERM, signal.SIGINT] * 2
    with run_jobs(signal.raise_signal, jobs, 2) as answers:
        assert list(answers) == [None] * 4
    # And the run has them again.
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT}


def take(answers: Iterator, into: list) -> None:
    for answer in answers:
        into.append(answer)


@pytest.mark.parametrize('workers', [1, 2])
def test_stopping_yields_finished_results_and_ends_workers(workers):
    taken = []
    with (
        pytest.raises(Stopped),
        run_jobs(time.sleep, [0.02] * 1000, workers, lambda: len(taken) > 5) as answers,
    ):
        take(answers, taken)
    assert 6 <= len(taken) < 1000
    assert not active_children()


def test_stopping_does_not_wait_for_jobs_at_work():
    began, taken = time.monotonic(), []
    with (
        pytest.raises(Stopped),
        run_jobs(time.sleep, [0.0, LONG, LONG], 2, lambda: bool(taken)) as answers,
    ):
        take(answers, taken)
    assert time.monotonic() - began < 60
    assert not active_children()


def test_workers_end_with_a_run_that_is_killed():
    script = (
        'import time\n'
        'from marigold_ros.processes import run_jobs\n'
        f'with run_jobs(time.sleep, [0.0, {LONG}, {LONG}], 2) as answers:\n'
        '    next(answers)\n'
        '    print("at work", flush=True)\n'
        '    list(answers)\n'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', script],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert lines.readline() == b'at work\n'
        process.kill()
        process.wait(60)
        # The workers have the other ends of this pipe: it ends when all of them have.
        assert lines.read() == b''


def test_workers_give_back_what_they_hold(tmp_path):
    """Locks of processes that are killed are reported as leaked when the run ends."""
    (tmp_path / 'locking.py').write_text(
        'from multiprocessing import Lock\n'
        'LOCKS = []\n'
        'def hold(job):\n'
        '    LOCKS.append(Lock())\n'
        '    return job\n'
    )
    (tmp_path / 'main.py').write_text(
        'from locking import hold\n'
        'from marigold_ros.processes import run_jobs\n'
        "if __name__ == '__main__':\n"
        '    with run_jobs(hold, [1, 2, 3], 2) as answers:\n'
        '        print(list(answers))\n'
    )
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, str(tmp_path / 'main.py')],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.stdout == '[1, 2, 3]\n'
    assert done.stderr == ''


@pytest.mark.parametrize('kind', [DamagedBagError, InputError, UsageError])
def test_known_errors_come_whole_from_another_process(kind):
    more = {DamagedBagError: {'frames': 3}, InputError: 'shape'}.get(kind)
    error = kind('the text') if more is None else kind('the text', more)
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), vars(back)) == (kind, 'the text', vars(error))
