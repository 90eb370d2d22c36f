# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""The application: the page, uploads, jobs and their files."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
import os
from pathlib import Path
import secrets
import shutil

from anyio import CapacityLimiter, to_thread
from marigold_ros.bags.frames import Excerpt
from marigold_ros.config import NodeConfig, PipelineConfig
from marigold_ros.errors import MarigoldError
import marigold_ros.evaluation.report
from marigold_ros.models.hub import as_size
from marigold_ros.replay.photos import IMAGE_SUFFIXES
from marigold_ros.replay.replay_plan import ReplayOptions
from marigold_ros.settings import build
from marigold_ros.web.bag_jobs import score_bag
from marigold_ros.web.depth_jobs import show_photo, show_video
from marigold_ros.web.jobs import (
    full_disk,
    Job,
    JobQueue,
    MOST_WAITING,
    naming_full_disk,
    UNEXPECTED,
    UPLOAD,
)
from marigold_ros.web.live import BOUNDARY, Live
from marigold_ros.web.models import ModelStore
from marigold_ros.web.security import Access, Guard, refusal, REPORT_POLICY
from marigold_ros.web.uploads import (
    check_bag,
    check_content,
    check_length,
    check_name,
    is_one_line,
    Limits,
    receive,
    Refused,
)
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_PAGE = Path(__file__).parent / 'page'
# Slider, cloud and style are those of the report.
_REPORT_PAGE = Path(marigold_ros.evaluation.report.__file__).parent / 'page'
_OWN = ('serve.js', 'result.js', 'live.js', 'serve.css', 'room.jpg', 'street.jpg')
_STATIC = {
    **{name: _REPORT_PAGE / name for name in ('charts.js', 'frames.js', 'cloud.js', 'report.css')},
    **{name: _PAGE / name for name in _OWN},
}
_SHOWN = {'.jpg', '.html'}  # the others are downloads


@dataclass
class Service:
    """What the application works with; ``folder`` is temporary."""

    models: ModelStore
    jobs: JobQueue
    folder: Path
    limits: Limits = field(default_factory=Limits)
    live: Live = field(default_factory=Live)
    receiving: Counter[str] = field(default_factory=Counter)  # uploads in progress, by kind
    # One check of a photo and one of another file at once: each can need a gigabyte.
    photo_check: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    other_check: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))

    async def page(self, request: Request) -> Response:
        return FileResponse(_PAGE / 'index.html', media_type='text/html')

    async def static(self, request: Request) -> Response:
        """Return a script or style of the page."""
        path = _STATIC.get(request.path_params['name'])
        if path is None:
            raise HTTPException(404)
        return FileResponse(path)

    async def settings(self, request: Request) -> Response:
        """Return what the page offers: models, limits, kinds of files."""
        return JSONResponse(
            {
                'models': self.models.describe(),
                'loading': self.models.description is None,
                'limits': {'photo': self.limits.photo, 'other': self.limits.other},
                'images': IMAGE_SUFFIXES,
            }
        )

    async def upload(self, request: Request) -> Response:
        """Receive a file, check it, and let its job wait."""
        upload = check_name(request.query_params.get('name', ''))
        work = self._chosen(upload.kind, request.query_params)
        length = check_length(upload, request.headers.get('content-length'), self.limits)
        if not await run_in_threadpool(self.jobs.make_room, self.folder, length):
            raise Refused(
                413, f'{upload.name} has {as_size(length)}, and {full_disk(self.folder)}'
            )
        folder = self._new_folder()
        self.receiving[upload.kind] += 1
        try:
            # Under its own name, which is that of its results, apart from them.
            path = folder / UPLOAD / upload.name
            path.parent.mkdir()
            with naming_full_disk(folder):
                await receive(request.stream(), length, path)
            limiter = self.photo_check if upload.kind == 'photo' else self.other_check
            await to_thread.run_sync(check_content, upload, path, limiter=limiter)
            if await request.is_disconnected():  # no page would know its job
                raise ClientDisconnect
            return self._start(Job(upload.kind, upload.name, folder, partial(work, path=path)))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self.receiving[upload.kind] -= 1

    async def name_bag(self, request: Request) -> Response:
        """Evaluate a bag of this machine by its path."""
        text = request.query_params.get('path', '')
        if not text.strip() or not is_one_line(text):
            raise Refused(400, 'the path of the bag is missing; give that of its file or folder')
        work = self._chosen('bag', request.query_params)
        path = Path(os.path.expanduser(text))  # that of Path raises for users who are not there
        try:
            await to_thread.run_sync(check_bag, path, limiter=self.other_check)
        except OSError as error:
            raise Refused(422, f'{text[:80]} cannot be read ({error.strerror})') from error
        if await request.is_disconnected():
            raise ClientDisconnect
        name, folder = path.resolve().name, self._new_folder()
        return self._start(Job('bag', name, folder, partial(work, path=path)))

    def _chosen(self, kind: str, query: Mapping[str, str]) -> Callable[..., None]:
        """Return the work that a request asks for, of a job and the ``path`` of its file."""
        self._refuse_if_full(kind)
        model = query.get('model') or self.models.names[0]
        self.models.check(model)
        steps = _number(query, 'steps', 0)
        settings = build(PipelineConfig, {'denoising_steps': steps})
        if kind == 'bag':
            excerpt = Excerpt(every=_number(query, 'every', 1))
            options = ReplayOptions(settings, excerpt=excerpt)
            return partial(score_bag, models=self.models, model=model, options=options)
        show = show_photo if kind == 'photo' else show_video
        return partial(show, models=self.models, model=model, settings=settings.prediction)

    def _refuse_if_full(self, kind: str) -> None:
        if not self.folder.is_dir():  # cleaners of /tmp
            text = f'{self.folder}, where the server keeps files, was deleted'
            raise Refused(503, f'{text}; start it again, with TMPDIR set to another folder')
        if self.jobs.is_full or self.receiving[kind] >= MOST_WAITING:
            raise Refused(429, f'{MOST_WAITING} files are waiting already; come back later')

    def _new_folder(self) -> Path:
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir()
        return folder

    def _start(self, job: Job) -> Response:
        self._refuse_if_full('')
        self.jobs.add(job)
        return JSONResponse(self.jobs.describe(job), 202)

    def _job(self, request: Request) -> Job:
        job = self.jobs.find(request.path_params['job'])
        if job is None:
            raise Refused(404, 'there is no such job any more; send the file again')
        return job

    async def all_jobs(self, request: Request) -> Response:
        return JSONResponse([self.jobs.describe(job) for job in self.jobs.all()])

    async def job(self, request: Request) -> Response:
        return JSONResponse(self.jobs.describe(self._job(request)))

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        self.jobs.cancel(job)
        return JSONResponse(self.jobs.describe(job))

    async def live_nodes(self, request: Request) -> Response:
        """Return the depth nodes that are seen."""
        viewer = await run_in_threadpool(self.live.viewer)
        names = await run_in_threadpool(viewer.nodes)
        usual = NodeConfig()
        scale = {'near': usual.color_min_depth, 'far': usual.color_max_depth}
        return JSONResponse({'nodes': names, 'scale': scale})

    async def live_state(self, request: Request) -> Response:
        """Return rate and fit of a node that is watched."""
        viewer = await run_in_threadpool(self.live.viewer)
        return JSONResponse(viewer.state(request.query_params.get('node', '')))

    async def live_images(self, request: Request) -> Response:
        name = request.query_params.get('node', '')
        await run_in_threadpool(self.live.check, name)
        kind = f'multipart/x-mixed-replace; boundary={BOUNDARY}'
        images = self.live.images(name, request.is_disconnected)
        return StreamingResponse(images, media_type=kind)

    async def file(self, request: Request) -> Response:
        name = request.path_params['name']
        path = self._job(request).files.get(name)
        if path is None or not path.is_file():
            raise Refused(404, f'the job has no file {ascii(name[:80])}')
        kind = 'inline' if path.suffix in _SHOWN else 'attachment'
        answer = FileResponse(path, filename=name, content_disposition_type=kind)
        if path.suffix == '.html':
            answer.headers['content-security-policy'] = REPORT_POLICY
        return answer


def _number(query: Mapping[str, str], name: str, least: int) -> int:
    """Return a whole number of a query; raises Refused for anything else."""
    text = query.get(name, str(least))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise Refused(400, f"{name} is '{text[:20]}'; give a whole number of at least {least}")
    return int(text)


def make_app(service: Service, access: Access) -> Starlette:
    """Return the application behind its guard."""
    routes = [
        Route('/', service.page),
        Route('/page/{name}', service.static),
        Route('/api/settings', service.settings),
        Route('/api/files', service.upload, methods=['POST']),
        Route('/api/bags', service.name_bag, methods=['POST']),
        Route('/api/live', service.live_nodes),
        Route('/api/live/state', service.live_state),
        Route('/api/live/images', service.live_images),
        Route('/api/jobs', service.all_jobs),
        Route('/api/jobs/{job}', service.job),
        Route('/api/jobs/{job}', service.cancel, methods=['DELETE']),
        Route('/api/jobs/{job}/files/{name}', service.file),
    ]
    kinds = (MarigoldError, HTTPException, ClientDisconnect, Exception)
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access)],
        exception_handlers=dict.fromkeys(kinds, _answer_error),
    )


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, MarigoldError):
        return refusal(error.status if isinstance(error, Refused) else 422, str(error))
    if isinstance(error, HTTPException):
        texts = {404: 'there is no such page', 405: 'this address does not take such requests'}
        return refusal(error.status_code, texts.get(error.status_code, error.detail))
    if isinstance(error, ClientDisconnect):
        return refusal(400, 'the upload ended early; send it again')
    return refusal(500, UNEXPECTED)
