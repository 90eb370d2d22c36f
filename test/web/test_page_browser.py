# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The page in a real browser: Debian's Chromium, headless, driven by selenium."""

from __future__ import annotations

import base64
from pathlib import Path
import threading

import cv2
from marigold_ros.frame import Prediction
from marigold_ros.web import app
from marigold_ros.web.jobs import JobQueue
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # drives a browser
DESKTOP, PHONE = (1280, 900), (390, 844)
HOME, END, LEFT = '\ue011', '\ue010', '\ue012'  # keys of WebDriver
PATIENCE_S = 20
SILENT = 'the server does not answer; is it still running?'
# As a file manager does, with a file that only the page knows.
DROP = """
const [name, content] = arguments;
const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name));
const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
for (const kind of ['dragover', 'drop']) {
  const left = document.getElementById('drop').dispatchEvent(new DragEvent(kind, options));
  if (left) throw Error('the browser opens the file instead');
}
"""
LIVE_WIDTH = 'return document.getElementById("live-image").naturalWidth'
# What the page asks every second, it asks 20 times a second.
FAST = 'const slow = setInterval; setInterval = (act, ms) => slow(act, ms / 20);'


def a_photo():
    v, u = np.mgrid[0:300, 0:400]
    rgb = np.stack([255 - v * 255 // 300, u * 255 // 400, (u + v) % 256], axis=2)
    return cv2.imencode('.png', rgb[..., ::-1].astype(np.uint8))[1].tobytes()


def a_video(folder):
    """Return a video of ever brighter frames, of which the page shows every other one."""
    path = folder / 'drive.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5.0, (64, 48))
    for number in range(103):
        writer.write(np.full((48, 64, 3), 2 * number, np.uint8))
    writer.release()
    return path.read_bytes()


@pytest.fixture(params=[DESKTOP, PHONE], ids=['desktop', 'phone'])
def opened(request, browser, server):
    """The page at a width, its console read out at the end."""
    browser.switch_to.new_window('tab')  # a tab of its own resumes no jobs
    resize(browser, *request.param)
    visit(browser, server)
    yield browser
    noted = browser.get_log('browser')
    browser.close()
    browser.switch_to.window(browser.window_handles[0])
    assert [entry for entry in noted if entry['level'] != 'INFO'] == []


def resize(browser, width, height):
    size = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 500}
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)


def find(browser, selector):
    return browser.find_element('css selector', selector)


def wait(browser, condition):
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, PATIENCE_S, 0.05).until(lambda _: condition())


def visit(browser, server):
    browser.get(server.address)
    wait(browser, lambda: find(browser, '#model').text)


def drop(browser, name, data):
    browser.execute_script(DROP, name, base64.b64encode(data).decode())


def begin(browser, server):
    """Drop a photo, and return the gate before which its prediction waits."""
    gate = server.models.get('tiny').gate
    gate.clear()
    drop(browser, 'street.png', a_photo())
    wait(browser, lambda: 'predicting with tiny' in find(browser, '#status').text)
    return gate


def finished(browser, name=''):
    wait(browser, lambda: f'{name}: finished' in find(browser, '#status').text)


def violations(browser):
    """Return what axe finds, each with its elements; a page that is too wide, too."""
    axe = pytest.importorskip('axe_core_python', reason='axe-core-python is not installed')
    browser.execute_script((Path(axe.__file__).parent / 'axe.min.js').read_text('utf-8'))
    found = browser.execute_async_script('axe.run(document).then(arguments[0])')
    widths = 'return [document.documentElement.scrollWidth, window.innerWidth]'
    needed, given = browser.execute_script(widths)
    too_wide = [('too wide', [needed])] if needed > given else []
    return too_wide + [(v['id'], [n['html'] for n in v['nodes']]) for v in found['violations']]


def test_a_dropped_photo_shows_its_depth(opened):
    drop(opened, '50% of street #1.png', a_photo())
    finished(opened)
    images = opened.find_elements('css selector', '#depth-view img')
    loaded = 'return arguments[0].complete && arguments[0].naturalWidth'
    wait(opened, lambda: all(opened.execute_script(loaded, image) == 400 for image in images))
    assert [image.get_attribute('alt') for image in images] == [
        'image of 50% of street #1.png',
        'depth of 50% of street #1.png',
    ]
    top = 'return document.getElementById("depth-view").getBoundingClientRect().top'
    assert opened.execute_script(top) < PHONE[1]
    sources = [image.get_attribute('src').rpartition('_')[2] for image in images]
    assert sources == ['image.jpg', 'depth.jpg']
    slider = find(opened, '#depth-view input[type=range]')
    assert slider.get_attribute('aria-valuetext') == '50 % depth, the rest image'
    near, far = opened.find_elements('css selector', '.ramps text')
    assert (near.text, far.text) == ('near', 'far')
    assert near.rect['x'] < far.rect['x']
    assert find(opened, '#depth-view > .note').text.startswith('400×300, ')
    links = opened.find_elements('css selector', '.downloads a')
    assert '⤓ 50% of street #1_relative.npy' in [link.text for link in links]
    fetched = 'fetch(arguments[0].href).then((answer) => arguments[1](answer.status))'
    assert {opened.execute_async_script(fetched, link) for link in links} == {200}
    wait(opened, lambda: 'points' in find(opened, '.cloud output').text)
    find(opened, '#drop summary').click()
    for scheme in ('light', 'dark'):
        feature = {'name': 'prefers-color-scheme', 'value': scheme}
        opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [feature]})
        assert violations(opened) == []


def test_a_dropped_video_plays_beside_its_depth(opened, tmp_path):
    drop(opened, 'drive.avi', a_video(tmp_path))
    finished(opened)
    slider = find(opened, '#frame-number')
    assert slider.get_attribute('aria-valuetext') == 'image 103, 20.4 s'
    slider.send_keys(HOME)
    assert slider.get_attribute('aria-valuetext') == 'image 1, 0.0 s'
    assert find(opened, '.player label').text == 'Image 1 of the video, at 0.0 s'
    assert 'ms an image, 103 images by tiny (' in find(opened, '#depth-view > .note').text
    slider.send_keys(END, LEFT)
    button = find(opened, '.player button')
    button.click()
    wait(opened, lambda: slider.get_attribute('aria-valuetext') == 'image 103, 20.4 s')
    wait(opened, lambda: slider.get_attribute('aria-valuetext') == 'image 1, 0.0 s')
    for after in ('Play', 'Pause'):
        button.click()
        assert button.text == after
    slider.send_keys(END)
    opened.execute_async_script('setTimeout(arguments[0], 300)')  # the next image comes after 200
    assert button.text == 'Play'
    assert slider.get_attribute('aria-valuetext') == 'image 103, 20.4 s'
    assert find(opened, '.player label').text == 'Image 103 of the video, at 20.4 s'
    assert '/image%20102_image.jpg' in find(opened, '#depth-view img').get_attribute('src')
    assert violations(opened) == []
    button.click()
    opened.execute_script('left = arguments[0]', slider)
    opened.back()
    wait(opened, lambda: not texts(opened, '.player'))
    stays = 'const was = left.value; setTimeout(() => arguments[0](was === left.value), 300)'
    assert opened.execute_async_script(stays)  # nothing plays unseen


def test_a_job_can_be_cancelled(opened, server):
    gate = begin(opened, server)
    find(opened, '#cancel').click()
    assert find(opened, '#problem').text == 'cancelled'
    gate.set()
    server.settles(lambda: not server.is_busy)
    assert not find(opened, '#result').is_displayed()
    assert server.jobs.all()[-1].state == 'cancelled'
    opened.refresh()
    wait(opened, lambda: find(opened, '#model').text)
    drop(opened, 'street.png', a_photo())
    finished(opened)
    assert len(texts(opened, '.thumb')) == 1


def test_cancelled_files_are_not_sent_and_the_next_one_is(opened, server):
    before = server.jobs.all()
    limit_network(opened, uploadThroughput=30_000)  # bytes a second
    for name, data in (('slow', bytes(900_000)), ('unsent', b'never'), ('street', a_photo())):
        drop(opened, f'{name}.png', data)
    slow, unsent, _ = opened.find_elements('css selector', '.thumb')
    slow.click()
    wait(opened, lambda: 0 < float(find(opened, '#bar').get_attribute('value')) < 1)
    assert find(opened, '#status').text == 'sending slow.png'
    for thumb in (unsent, slow):
        thumb.click()
        find(opened, '#cancel').click()
    limit_network(opened)
    wait(opened, lambda: server.jobs.all() != before)
    server.settles(lambda: not server.is_busy)
    assert [job.name for job in server.jobs.all() if job not in before] == ['street.png']
    assert not find(opened, '#gallery').is_displayed()


def test_a_bag_that_is_cancelled_while_it_is_looked_at_is_not_scored(
    browser, server, short_drive, monkeypatch
):
    looked, gate = threading.Event(), server.models.get('tiny').gate
    monkeypatch.setattr(app, 'check_bag', lambda path: looked.wait(20))
    gate.clear()
    before = server.jobs.all()
    visit(browser, server)
    find(browser, '#drop summary').click()
    find(browser, '#path').send_keys(str(short_drive))
    find(browser, '#path-form button').click()
    wait(browser, lambda: find(browser, '#status').text == 'reading the bag')
    find(browser, '#cancel').click()
    looked.set()
    server.settles(lambda: server.jobs.all() != before)
    (job,) = (job for job in server.jobs.all() if job not in before)
    try:
        server.settles(job.stop.is_set)
    finally:
        gate.set()
    server.settles(lambda: job.state == 'cancelled')


def test_a_file_that_is_too_large_is_refused_without_being_sent(opened):
    resize(opened, 640, 300)  # a laptop's window at twice its size
    # A sparse file of the browser: 60 MB that are never read.
    opened.execute_script(
        'const transfer = new DataTransfer();'
        'transfer.items.add(new File([new ArrayBuffer(6e7)], "LARGE.JPG"));'
        'document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, cancelable: true}))'
    )
    assert find(opened, '#problem').text == 'LARGE.JPG has 60.0 MB, and may have 50.0 MB'
    place = find(opened, '#problem').rect['y'] - opened.execute_script('return scrollY')
    assert 0 <= place < 300
    assert not find(opened, '#progress').is_displayed()


def limit_network(browser, **limits):
    network = {'offline': False, 'latency': 0, 'downloadThroughput': -1, 'uploadThroughput': -1}
    browser.execute_cdp_cmd('Network.emulateNetworkConditions', {**network, **limits})


def test_a_lost_connection_is_named_or_comes_back(browser, server):
    def lose(*addresses):
        browser.execute_cdp_cmd('Network.setBlockedURLs', {'urls': addresses})

    visit(browser, server)
    gate = begin(browser, server)
    limit_network(browser, offline=True)
    browser.get_log('browser')
    wait(browser, lambda: any('DISCONNECTED' in e['message'] for e in browser.get_log('browser')))
    limit_network(browser)
    lose('*/cloud.json')
    gate.set()
    finished(browser)
    assert not find(browser, '#problem').is_displayed()
    wait(browser, lambda: texts(browser, '.cloud .note') == [SILENT])
    gate = begin(browser, server)
    lose('*/api/jobs*')
    find(browser, '#cancel').click()
    wait(browser, lambda: find(browser, '#problem').text.endswith('may go on with street.png'))
    browser.refresh()
    wait(browser, lambda: find(browser, '#problem').text == SILENT)
    lose()
    drop(browser, 'street.png', a_photo())
    wait(browser, lambda: find(browser, '#status').text == 'street.png: waiting for 1 other job')
    browser.delete_all_cookies()  # as a server that was started again has another token
    wait(browser, lambda: 'asks for a token' in find(browser, '#problem').text)
    gate.set()
    server.settles(lambda: not server.is_busy)
    browser.get_log('browser')


def test_a_server_that_has_ended_is_named_everywhere(browser, serving, tmp_path):
    with serving(tmp_path) as server:
        visit(browser, server)
    find(browser, '#live summary').click()
    wait(browser, lambda: find(browser, '#live-text').text == SILENT)
    assert find(browser, '#watch').is_enabled()
    assert find(browser, '#watch').text == 'Look again'
    find(browser, '.example').click()
    wait(browser, lambda: find(browser, '#problem').text == SILENT)
    drop(browser, 'street.png', a_photo())
    wait(browser, lambda: 'street.png could not be sent' in find(browser, '#problem').text)
    find(browser, '#drop summary').click()
    find(browser, '#path').send_keys('/data/drive')
    find(browser, '#path-form button').click()
    wait(browser, lambda: find(browser, '#problem').text == SILENT)
    noted = [entry['message'] for entry in browser.get_log('browser')]
    assert [message for message in noted if 'ERR_CONNECTION_REFUSED' not in message] == []


def texts(browser, selector):
    return [found.text for found in browser.find_elements('css selector', selector)]


def test_several_files_wait_in_a_gallery_where_going_back_works(opened, server, tmp_path):
    gate = server.models.get('tiny').gate
    gate.clear()
    names = [f'{name}.png' for name in ('first', 'second', 'third')]
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(a_photo())
    find(opened, '#file').send_keys('\n'.join(map(str, paths)))
    waiting = [f'{name}, tiny: waiting' for name in names[1:]]
    wait(opened, lambda: texts(opened, '.thumb')[1:] == waiting)
    gate.set()
    finished(opened)
    wait(opened, lambda: texts(opened, '.thumb') == [f'{name}, tiny' for name in names])
    assert [job.name for job in server.jobs.all()[-3:]] == names
    assert find(opened, '#depth-view h2').text == 'first.png'
    for _ in range(2):
        find(opened, '.thumb:last-child').click()
    assert find(opened, '#depth-view h2').text == 'third.png'
    opened.back()
    wait(opened, lambda: find(opened, '#depth-view h2').text == 'first.png')
    assert find(opened, '.thumb[aria-pressed="true"]').text == 'first.png, tiny'
    assert violations(opened) == []
    limit_network(opened, latency=500)  # the cloud of the second comes when the third is shown
    for number in (2, 3):
        find(opened, f'.thumb:nth-child({number})').click()
    opened.execute_async_script('ask("/api/jobs").then(arguments[0])')
    wait(opened, lambda: texts(opened, '.cloud h3'))
    assert texts(opened, '.cloud h3') == ['Point cloud']


def test_a_broken_file_is_refused_and_one_too_many_sent_again(browser, server, monkeypatch):
    visit(browser, server)
    drop(browser, 'broken.png', b'not an image')
    wait(browser, lambda: 'broken.png' in find(browser, '#problem').text)
    gate = begin(browser, server)
    assert not find(browser, '#problem').is_displayed()
    while server.send('other.png', a_photo()).status == 202:
        pass
    full, asked = JobQueue.is_full, []
    monkeypatch.setattr(JobQueue, 'is_full', property(lambda q: asked.append(q) or full.fget(q)))
    limit_network(browser, uploadThroughput=1000)
    drop(browser, 'last.png', a_photo())
    server.settles(lambda: asked)  # refused, which the page knows once all of it is sent
    gate.set()
    wait(browser, lambda: 'street.png, tiny' in texts(browser, '.thumb'))
    limit_network(browser)
    finished(browser, 'last.png')
    assert any('429' in entry['message'] for entry in browser.get_log('browser'))


def test_a_result_that_newer_ones_replaced_says_so(opened, server):
    for name in ('first.png', 'second.png'):
        drop(opened, name, a_photo())
        finished(opened, name)
    for number in range(13):
        server.wait(server.send(f'{number}.png', a_photo()).json)
    find(opened, '.thumb:first-child').click()
    wait(opened, lambda: 'deleted this result for newer ones' in find(opened, '#problem').text)
    assert texts(opened, '#depth-view h2') == []
    assert texts(opened, '.thumb')[0] == 'first.png, tiny: failed'
    opened.get_log('browser')  # of its image, which is not there


def test_a_photo_runs_again_with_another_model_beside_the_first(opened, server):
    drop(opened, 'another.png', a_photo())
    finished(opened)
    find(opened, '.example').click()
    finished(opened, 'room.jpg')
    find(opened, '#model').send_keys('unet')
    assert find(opened, '#again').text == 'Again with unet'
    gate = server.models.get('unet').gate
    gate.clear()
    find(opened, '#again').click()
    wait(opened, lambda: find(opened, '#status').text == 'room.jpg: predicting with unet')
    find(opened, '.thumb:first-child').click()
    gate.set()
    wait(opened, lambda: find(opened, '.thumb:last-child').text == 'room.jpg, unet')
    assert find(opened, '#status').text == 'another.png: finished'  # of the one that is shown
    assert texts(opened, '.stops button') == ['image', 'depth']
    find(opened, '.thumb:last-child').click()
    assert texts(opened, '.stops button') == ['image', 'tiny', 'unet']
    slider = find(opened, '#depth-view input[type=range]')
    assert slider.get_attribute('aria-valuetext') == '50 % unet, the rest tiny'
    assert texts(opened, '.tag') == ['unet', 'tiny']
    tiny, unet = (job.identity for job in server.jobs.all()[-2:])
    images = opened.find_elements('css selector', '#depth-view img')
    assert [i.get_attribute('src').split('/')[5] for i in images] == [unet, tiny, unet]
    assert len(texts(opened, '.thumb')) == 3
    assert violations(opened) == []


def test_steps_are_asked_of_the_models_that_have_them(opened, server):
    asked = []
    for name in ('tiny-diffusion', 'unet'):
        find(opened, '#model').send_keys(name)
        if name == 'tiny-diffusion':
            find(opened, '#steps').send_keys('2')
        assert find(opened, '#steps').is_displayed() == (name == 'tiny-diffusion')
        drop(opened, f'{name}.png', a_photo())
        finished(opened, f'{name}.png')
        asked.append(server.models.get(name).asked[-1]['denoising_steps'])
    assert asked == [2, None]


def test_models_of_other_units_have_a_scale_each(opened, monkeypatch, server):
    find(opened, '.example').click()
    finished(opened)

    def metres(rgb, **_):
        depth = np.geomspace(2, 40, rgb[..., 0].size).reshape(rgb.shape[:2])
        return Prediction(depth.astype(np.float32), space='metric')

    monkeypatch.setattr(server.models.get('unet'), 'predict', metres)
    find(opened, '#model').send_keys('unet')
    find(opened, '#again').click()
    wait(opened, lambda: texts(opened, '.stops button') == ['image', 'tiny', 'unet'])
    parts = opened.find_elements('css selector', '#depth-view .ramps > div')
    ends = [(find(part, 'text').text, part.text.partition('\n')[0]) for part in parts]
    assert ends == [
        ('near', 'tiny: relative depth, without unit'),
        ('near, 1.9 m', 'unet: depth in metres'),
    ]


def test_a_video_is_seen_while_processed_and_then_by_itself(opened, tmp_path, server, monkeypatch):
    model, ready = server.models.get('tiny'), threading.Semaphore(100)

    def predict(rgb, *, real=model.predict, **options):
        ready.acquire(timeout=20)
        return real(rgb, **options)

    monkeypatch.setattr(model, 'predict', predict)
    drop(opened, 'drive.avi', a_video(tmp_path))
    wait(opened, lambda: texts(opened, '.player label') == ['Image 100 of the video, at 19.8 s'])
    assert find(opened, '#status').text.endswith(', 100 of 103')
    find(opened, '#frame-number').send_keys(LEFT)
    ready.release(3 + 60)
    finished(opened)
    assert texts(opened, '.player label') == ['Image 99 of the video, at 19.6 s']
    find(opened, '#frame-number').send_keys(LEFT)
    assert texts(opened, '.player label') == ['Image 97 of the video, at 19.2 s']
    find(opened, '#again').click()
    wait(opened, lambda: texts(opened, '.player label') == ['Image 60 of the video, at 11.8 s'])
    find(opened, '.player button').click()  # plays what is there, and does not jump to the newest
    wait(opened, lambda: 5 < int(find(opened, '.player label').text.split()[1]) < 60)
    ready.release(100)
    finished(opened)
    assert texts(opened, '.stops button') == ['image', 'depth']


def test_a_file_that_is_gone_or_a_folder_is_not_blamed_on_the_server(opened, tmp_path):
    path = tmp_path / 'street.png'
    path.write_bytes(a_photo())
    find(opened, '#file').send_keys(str(path))
    finished(opened)
    assert not find(opened, '#file').get_attribute('value')  # the same file can be chosen again
    path.unlink()
    find(opened, '#again').click()
    wait(opened, lambda: 'street.png cannot be read' in find(opened, '#problem').text)
    opened.get_log('browser')  # of the request that could not be made


def test_a_page_opened_early_says_that_the_model_is_loading(browser, loading):
    server, loads = loading
    browser.get(server.address)
    wait(browser, lambda: find(browser, '#remark').text.startswith('Loading the model'))
    limit_network(browser, offline=True)
    wait(browser, lambda: 'does not answer' in find(browser, '#remark').text)
    limit_network(browser)
    drop(browser, 'street.png', a_photo())
    wait(browser, lambda: find(browser, '#status').text == 'street.png: loading the model')
    loads.set()
    finished(browser)
    wait(browser, lambda: find(browser, '#remark').text.startswith('tiny is a small'))
    assert find(browser, '#remark code').text.startswith('python -m marigold_ros models get ')
    browser.get_log('browser')


def test_a_reload_shows_the_same_result(opened):
    drop(opened, 'street.png', a_photo())
    finished(opened)
    opened.refresh()
    finished(opened)
    assert find(opened, '#depth-view h2').text == 'street.png'
    for button in ('#cancel', '#again'):  # the file itself is not there any more
        assert not find(opened, button).is_displayed()


def test_a_link_of_another_site_opens_the_page(browser, serving, tmp_path):
    with serving(tmp_path) as server:
        browser.get(f'data:text/html,<a href="{server.address}">depth</a>')
        find(browser, 'a').click()
        wait(browser, lambda: find(browser, '#model').text)
        assert browser.current_url == f'http://{server.host}/'


def test_a_bag_by_its_path_shows_its_verdict_and_opens_its_report(opened, short_drive, tmp_path):
    (whole,), path = short_drive.glob('*.mcap'), tmp_path / 'drive.mcap'
    path.write_bytes(whole.read_bytes()[:-20])
    find(opened, '#drop summary').click()
    find(opened, '#path').send_keys(str(path))
    find(opened, '#every').clear()
    find(opened, '#every').send_keys('2')
    find(opened, '#path-form button').click()
    finished(opened)
    assert find(opened, '.verdict h2').text
    assert texts(opened, '#result > .note') == ['2 images processed, all with metric depth.']
    assert 'drive.mcap is incomplete' in find(opened, '#result > .warning').text
    assert '/velodyne_points' in find(opened, '.found').text
    assert violations(opened) == []
    opened.get(find(opened, 'a.open').get_attribute('href'))
    assert find(opened, 'h1').text == 'Depth on drive.mcap'
    # Its script runs: charts have curves.
    assert opened.find_elements('css selector', '.plot .curve')


def test_the_live_view_shows_the_images_of_a_node(opened, server, monkeypatch, planted_viewer):
    state = {'hertz': 10.0, 'age': 0.1, 'silence': 0.1, 'fit': 'fitted', 'reason': ''}
    viewer = planted_viewer({'/marigold_depth': a_photo()}, state)
    monkeypatch.setattr(server.live, '_viewer', viewer)
    opened.execute_script(FAST)
    find(opened, '#live summary').click()
    wait(opened, lambda: find(opened, '#node').text.strip() == '/marigold_depth')
    find(opened, '#watch').click()
    wait(opened, lambda: opened.execute_script(LIVE_WIDTH) == 400)
    wait(opened, lambda: find(opened, '#live-text').text == '10.0 images a second')
    ends = [text.split()[:3] for text in texts(opened, '#live .ends span')]
    assert ends == [['near,', '0.5', 'm'], ['far,', '80', 'm']]
    state.update(fit='none', reason='no scan')
    wait(opened, lambda: find(opened, '#live-text').text == 'no metric depth: no scan')
    for changes, words in (
        ({'fit': 'held'}, '10.0 images a second, with the fit of an earlier image: no scan'),
        ({'hertz': 0.0, 'fit': 'fitted'}, 'one image'),
        ({'age': 7.0}, 'no image for 7 s: no scan'),
        ({'age': None}, 'waiting for the first image'),
    ):
        state.update(changes)
        wait(opened, lambda words=words: find(opened, '#live-text').text == words)
    state.update(silence=9.0)  # it has ended, and its last fit says nothing of now
    gone = 'nothing from the node for 9 s; before that: no scan'
    wait(opened, lambda: find(opened, '#live-text').text == gone)
    assert violations(opened) == []
    opened.delete_all_cookies()
    wait(opened, lambda: 'asks for a token' in find(opened, '#live-text').text)
    limit_network(opened, latency=300)
    find(opened, '#watch').click()
    assert not find(opened, '#live-view').is_displayed()
    opened.execute_async_script('ask("/api/live").catch(arguments[0])')
    assert not find(opened, '#live-text').text  # of answers that came late
    opened.get_log('browser')


def test_the_node_that_is_chosen_is_watched_until_the_view_is_stopped(
    browser, server, monkeypatch, planted_viewer
):
    images = {'/front': a_photo(), '/rear': cv2.imencode('.png', np.zeros((60, 80)))[1].tobytes()}
    viewer = planted_viewer(images)
    monkeypatch.setattr(server.live, '_viewer', viewer)
    browser.get(server.address)
    find(browser, '#live summary').click()
    wait(browser, lambda: find(browser, '#node').text.split() == [*images])
    find(browser, '#watch').click()
    wait(browser, lambda: browser.execute_script(LIVE_WIDTH) == 400)
    find(browser, '#node').send_keys('/rear')
    wait(browser, lambda: browser.execute_script(LIVE_WIDTH) == 80)
    server.settles(lambda: viewer.watched == ['/rear'])
    find(browser, '#watch').click()
    server.settles(lambda: viewer.watched == [])
    find(browser, '#watch').click()
    server.settles(lambda: viewer.watched == ['/rear'])
    find(browser, '#live summary').click()
    server.settles(lambda: viewer.watched == [])


def test_a_live_view_that_is_refused_says_so(browser, server, monkeypatch, planted_viewer):
    seen = {}
    monkeypatch.setattr(server.live, '_viewer', planted_viewer(seen))
    browser.get(server.address)
    find(browser, '#live summary').click()
    wait(browser, lambda: find(browser, '#live-text').text.startswith('No depth node is seen. '))
    assert find(browser, '#watch').text == 'Look again'
    seen['/marigold_depth'] = b''
    find(browser, '#watch').click()
    wait(browser, lambda: find(browser, '#node').text.strip() == '/marigold_depth')
    seen.clear()
    find(browser, '#watch').click()
    wait(browser, lambda: find(browser, '#live-text').text.startswith('No images come: '))
    assert find(browser, '#watch').text == 'Watch'
    assert not find(browser, '#live-view').is_displayed()
    browser.get_log('browser')
