# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
The weights of networks: looked at before anything is built, loaded, checked, counted.

What a folder says it holds is believed only as far as its safetensors go: a network that needs
more than they have is refused while it is built on the meta device, where it takes no memory.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, ExitStack, suppress
from math import prod
import os
from pathlib import Path
import shutil
from tempfile import mkdtemp
from threading import get_ident
from typing import Any, TypeVar

from marigold_ros.errors import brief, CheckpointError
from marigold_ros.models.facts import unreadable, weight_shapes, WEIGHTS
from marigold_ros.models.locate import read_json
from safetensors import safe_open, SafetensorError
from safetensors.torch import load_file
import torch
from torch import nn
from torch.nn.modules import module as hooks

# Modules, weights and buffers made per tensor of the files: about 3 in known networks, but a
# PrimeDepth also builds the U-Net that it reads.
_PARTS_PER_TENSOR = 30
Network = TypeVar('Network', bound=nn.Module)
# Elements of buffers that no file holds, as positions.
_SPARE_ELEMENTS = 2**20
_FLOATS = ('F64', 'F32', 'F16', 'BF16', 'F8_E4M3', 'F8_E5M2')


def count_parameters(*networks: nn.Module) -> int:
    """Return the number of weights of several networks."""
    return sum(p.numel() for network in networks for p in network.parameters())


def full_precision(files: Iterable[Path]) -> list[Path]:
    """Return the weight files that are read: copies in half precision only if alone."""
    found = list(files)
    return [path for path in found if '.fp16' not in path.name] or found


def check_index(folder: Path, files: Iterable[Path]) -> None:
    """Raise CheckpointError if an index names other weights than those of its folder."""
    known = {path.name for path in files}
    for path in folder.glob('*.safetensors.index*.json'):
        where = read_json(path).get('weight_map')
        named = set(map(str, where.values())) if isinstance(where, dict) else {'no weights'}
        if lacking := sorted(named - known):
            raise CheckpointError(
                f'{path} names {lacking[0][:100]}, which is not in its folder; copy it there, or '
                'restore the index'
            )


def build_within(files: Collection[Path], build: Callable[[], Network]) -> Network:
    """
    Build a network on the meta device, as far as the weights in safetensors files reach.

    Raises CheckpointError as soon as it has more parts, or in the end more weights, than they
    hold, if it cannot be built, or if one of its weights is quantised.
    """
    shapes = weight_shapes(files)
    held, where = sum(map(prod, shapes.values())), next(iter(files))
    remedy = 'config.json and weights must belong together: restore both'
    many = f'{where} has {len(shapes)} tensors, and its config.json asks for far more; {remedy}'
    try:
        with torch.device('meta'), _parts_up_to(_PARTS_PER_TENSOR * len(shapes) + 200, many):
            network = build()
    except CheckpointError:
        raise
    except Exception as error:  # whatever a wrong size led to
        raise CheckpointError(
            f'{where.parent} describes a network that cannot be built ({brief(error)}); {remedy}'
        ) from error
    needed = sum(one.numel() for one in (*network.parameters(), *network.buffers()))
    if needed > 2 * held + _SPARE_ELEMENTS:
        raise CheckpointError(
            f'{where.parent} describes a network of {needed:.3g} weights and holds {held:.3g}; '
            f'{remedy}'
        )
    _refuse_quantised(files, network)
    return network


def _refuse_quantised(files: Iterable[Path], network: nn.Module) -> None:
    """Raise CheckpointError for a weight that is no float; counters and indices may be."""
    # By the last part of the name: diffusers and transformers map others to their own.
    own = network.state_dict().items()
    floating = {name.rpartition('.')[2] for name, one in own if one.is_floating_point()}
    for path in files:
        with safe_open(path, framework='np') as held:
            for name in held.keys():  # noqa: SIM118
                kind = held.get_slice(name).get_dtype()
                if name.rpartition('.')[2] in floating and kind not in _FLOATS:
                    raise CheckpointError(
                        f'{path}: weight {name[:100]} has type {kind}, and only '
                        f'{", ".join(_FLOATS)} are read; take the checkpoint before it was '
                        'quantised, or save it in float16'
                    )


@contextmanager
def _parts_up_to(most: int, text: str) -> Iterator[None]:
    """Raise CheckpointError in this thread when it makes more modules, weights and buffers."""
    thread, made = get_ident(), 0

    def count(*_: Any) -> None:
        nonlocal made
        made += get_ident() == thread
        if made > most:
            raise CheckpointError(text)

    kinds: Any = (
        hooks.register_module_module_registration_hook,
        hooks.register_module_parameter_registration_hook,
        hooks.register_module_buffer_registration_hook,
    )
    with ExitStack() as stack:
        for register in kinds:
            stack.enter_context(register(count))
        yield


def read_weights(files: Iterable[Path]) -> dict[str, torch.Tensor]:
    """Copy tensors out of files, as mapped ones can be written over; raises CheckpointError."""
    found: dict[str, torch.Tensor] = {}
    for path in files:
        try:
            found |= {name: value.clone() for name, value in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise unreadable(path, error) from error
    return found


def load_weights(network: nn.Module, path: Path) -> None:
    """
    Load a file's weights into a network in place, in float32; they take the place of its own.

    Raises CheckpointError if the file is missing or damaged, belongs to a network of another
    shape, or has a weight that is not finite.
    """
    weights = {name: value.float() for name, value in read_weights([path]).items()}
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise unreadable(path, error) from error
    require_finite(weights, path)


def load_built(folder: Path, build: Callable[[], Network]) -> Network:
    """Build a network and load a folder's weights in float32, for inference; CheckpointError."""
    path = folder / WEIGHTS
    network = build_within([path], build)  # where no random weights are drawn
    load_weights(network, path)
    return network.eval().requires_grad_(False)


def file_facts(folder: Path) -> list[str]:
    """Return name, size and time of each file; none where there is no folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [f'{path.name} {(s := path.stat()).st_size} {s.st_mtime_ns}' for path in files]


def to_load_again(folder: Path, load: Callable[[], Network]) -> Callable[[], Network]:
    """Return what loads a folder's network again; CheckpointError if its files changed since."""
    facts = file_facts(folder)

    def load_again() -> Network:
        if file_facts(folder) != facts:
            raise CheckpointError(
                f'{folder} has changed since its model was loaded, and images of another size '
                'need it; load the model again'
            )
        return load()

    return load_again


def require_same(
    where: Path, missing: Collection[str], unknown: Collection[str], misshapen: Collection[Any]
) -> None:
    """Raise CheckpointError if tensors are missing, unknown, or (name, …) of another shape."""
    names = [*missing, *unknown, *(name for name, *_ in misshapen)]
    if names:
        raise CheckpointError(
            f'{where}: {len(missing)} weights missing, {len(unknown)} unknown, {len(misshapen)} '
            f'of other shape (first: {names[0][:100]}); weights and config.json must belong '
            'together'
        )


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """Keep progress, and reports of what is an error here, of diffusers or transformers silent."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def require_finite(weights: Mapping[str, torch.Tensor], where: Path) -> None:
    """Raise CheckpointError, naming the first weight that is not finite."""
    for name, weight in weights.items():
        # One pass over the memory, and no mask of the size of the network. In float16 a sum of
        # finite weights overflows.
        kind = torch.float32 if weight.itemsize < 4 else weight.dtype
        if weight.is_floating_point() and not torch.isfinite(weight.sum(dtype=kind)):
            raise CheckpointError(
                f'{where}: weight {name} is not finite; the file is damaged, restore it'
            )


@contextmanager
def whole_folder(folder: Path, task: str = 'export') -> Iterator[Path]:
    """
    Yield a temporary folder that replaces ``folder`` once the block ends without an error.

    Raises CheckpointError, which names the ``task``, if it cannot be written; the existing folder
    stays.
    """
    draft, folder = None, Path(os.path.realpath(folder))  # a link to it stays
    try:
        if folder.is_file():
            raise CheckpointError(f'{folder} is a file; choose another folder, and {task} again')
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
        yield draft
        _replace(folder, draft)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f'{folder} could not be written ({brief(error)}); free some space or choose another '
            f'folder, and {task} again'
        ) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _replace(folder: Path, draft: Path) -> None:
    # mkdtemp and safetensors write for the owner alone.
    os.chmod(draft, 0o755)
    for path in draft.rglob('*'):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    old = folder.with_name(f'.{folder.name}-old')
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(draft, folder)
    except OSError:
        with suppress(OSError):  # there was none, or another program has put one there
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
