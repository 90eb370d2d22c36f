# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""Text that strangers wrote is one line without control characters wherever it is shown."""

from __future__ import annotations

import json
import re

from marigold_ros.__main__ import main
from marigold_ros.commands.terminal.output import grid, note, page
from marigold_ros.errors import count_kind, InputError, MarigoldError, shown
from marigold_ros.evaluation.report.html_page import escape
from marigold_ros.evaluation.results.results import to_json
from marigold_ros.reasons import as_reason
import pytest

# A terminal's title, its bell, cursor and colours (7 and 8 bits), and text written backwards.
EVIL = '\x1b]0;owned\x07\x1b[2J\x9b31m\x7f \u202egnp.exe\u2066 \r\nverdict: Good\u2028'
LONG = EVIL + 'x' * 100_000
CONTROL = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]')


def is_plain(text):
    return not CONTROL.search(text) and not re.search('^ *verdict: Good', text, re.MULTILINE)


@pytest.mark.parametrize(
    'show',
    [
        shown,
        lambda text: str(InputError(text)),
        lambda text: str(as_reason(text)),
        lambda text: page([f'topic {text}']),
        lambda text: grid([['topic', text], ['/camera', '12']])[0],
        escape,
    ],
    ids=['shown', 'error', 'reason', 'page', 'grid', 'html'],
)
def test_foreign_text_is_one_short_line(show):
    for text in (EVIL, LONG):
        line = show(text)
        assert is_plain(line)
        assert '\n' not in line
        assert len(line) < 1200
        assert 'owned' in line


def test_texts_that_differ_in_numbers_but_not_in_names_are_counted_as_one():
    counts = {}
    for text in ('61% of 700', '62% of 81.5', '/lidar_1 is late', '/lidar_2 is late'):
        count_kind(counts, text, 2, most=2)
    assert counts == {'61% of 700': 4, '/lidar_1 is late': 2}


def test_notes_on_stderr_are_plain(capsys):
    note(LONG)
    error = capsys.readouterr().err
    assert is_plain(error)
    assert error.count('\n') == 1


def test_json_is_the_same_and_has_no_control_characters():
    text = to_json({EVIL: [EVIL, 'größer']})
    assert is_plain(text)
    assert json.loads(text) == {EVIL: [EVIL, 'größer']}
    assert 'größer' in text


def test_a_long_error_keeps_its_remedy():
    text = str(MarigoldError(f'the topic {LONG} has no type; give --image'))
    assert text.startswith('the topic ')
    assert text.endswith(' has no type; give --image')


@pytest.fixture(scope='module')
def hostile_bag(changed_drive, tmp_path_factory):
    """A drive whose frames and LiDAR topic have names that are not meant well."""

    def rename(topic, message, log_ns):
        fields = {}
        if hasattr(message, 'header') and topic != '/tf':
            stamp = {'sec': message.header.stamp.sec, 'nanosec': message.header.stamp.nanosec}
            fields = {'header': {'stamp': stamp, 'frame_id': message.header.frame_id + LONG}}
        return topic + LONG if topic == '/velodyne_points' else topic, fields, log_ns

    folder = changed_drive(tmp_path_factory.mktemp('hostile') / 'drive', rename)
    return next(folder.glob('*.mcap'))


def test_a_bag_of_hostile_names_shows_them_escaped_everywhere(hostile_bag, tmp_path, capsys):
    for command in (['inspect'], ['evaluate', '--limit', '1', '--out', str(tmp_path)]):
        main([*command, str(hostile_bag)])
        for text in capsys.readouterr():
            assert is_plain(text)
            assert max(map(len, text.splitlines()), default=0) < 1200
    report = (tmp_path / 'report.html').read_text('utf-8')
    assert 'owned' in report
    assert is_plain(re.sub('<script.*?</script>', '', report, flags=re.DOTALL))
    assert 'x' * 2000 not in report


def test_a_file_of_a_hostile_name_is_named_escaped(tmp_path, capsys):
    path = tmp_path / (EVIL.replace('/', '') + '.png')
    path.write_bytes(b'no image')
    assert main(['predict', str(tmp_path), '--out', str(tmp_path / 'out')]) == 1
    shown_text = capsys.readouterr().err
    assert is_plain(shown_text)
    assert 'owned' in shown_text


def test_a_wrong_option_of_a_hostile_name_is_one_line(capsys):
    with pytest.raises(SystemExit):
        main(['inspect', f'--{EVIL}'])
    assert is_plain(capsys.readouterr().err)
