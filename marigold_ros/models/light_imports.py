# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Import diffusers' networks in a third of the time, without what they do not use here.

diffusers imports all of its networks to get one, and for each whatever is installed. While its
networks are imported here, :data:`UNUSED` are as if not installed, which it supports, and
:data:`CLOSED` are empty; the rest of diffusers then finds them again. Only its loaders of LoRA
weights stay without: a process that needs these imports diffusers first. SciPy is not installed
for diffusers alone: frames of another model may import it meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
import sys
from types import ModuleType
from typing import Any

NETWORKS = (
    'diffusers.models.unets.unet_2d_condition',
    'diffusers.models.autoencoders.autoencoder_kl',
    'diffusers.models.autoencoders.autoencoder_tiny',
    'diffusers.schedulers.scheduling_ddim',
    'diffusers.schedulers.scheduling_lcm',
)
UNUSED = ('transformers', 'peft')
# Their __init__ imports every module in them.
CLOSED = (
    'diffusers.models.autoencoders',
    'diffusers.models.transformers',
    'diffusers.models.unets',
    'diffusers.hooks',
)
COMPILER = 'torch._dynamo'
_allowed_in_graph: list[Any] = []


def import_networks() -> None:
    """Import the modules of diffusers that models need; another structure of it as it is."""
    if 'diffusers' in sys.modules:
        return
    before, unused = set(sys.modules), dict.fromkeys(UNUSED)
    # Listing the distributions of all packages takes half a second.
    listing = _changed(vars(metadata), {'packages_distributions': dict})
    try:
        with listing, _changed(sys.modules, _stand_ins()):
            utils: Any = import_module('diffusers.utils')
            import_module('diffusers.loaders')  # lists what is in it by what is installed
            # Each call of a network would import peft, to scale by 1.
            utils.USE_PEFT_BACKEND = False
            flags = {f'_{name}_available': False for name in (*UNUSED, 'scipy')}
            with _changed(sys.modules, unused), _changed(vars(utils.import_utils), flags):
                for name in NETWORKS:
                    import_module(name)
                # Each scheduler that is loaded asks for all others that know its settings.
                _ = import_module('diffusers').DDIMScheduler().compatibles
    except Exception:
        for name in set(sys.modules) - before:
            if name.partition('.')[0] == 'diffusers':
                del sys.modules[name]


@contextmanager
def _changed(values: dict[str, Any], changes: Mapping[str, Any]) -> Iterator[None]:
    """Change values for a time."""
    before = {name: values[name] for name in changes if name in values}
    values.update(changes)
    try:
        yield
    finally:
        for name in changes:
            values.pop(name, None)
        values.update(before)


def prepare_compiler() -> None:
    """Apply to torch's compiler what diffusers asked of it at import."""
    import torch

    while _allowed_in_graph:
        torch._dynamo.allow_in_graph(_allowed_in_graph.pop())


def _stand_ins() -> dict[str, ModuleType]:
    """Return empty packages, and a compiler that keeps in mind what is asked of it."""
    found = {name: ModuleType(name) for name in (*CLOSED, COMPILER)}
    spec = find_spec('diffusers')
    folder = Path(str(spec and spec.origin)).parents[1]
    for name in CLOSED:
        found[name].__path__ = [str(folder.joinpath(*name.split('.')))]
    vars(found[COMPILER]).update(allow_in_graph=_allow_later, disable=_do_not_disable)
    return found


def _allow_later(kind: Any) -> Any:
    _allowed_in_graph.append(kind)
    return kind


def _do_not_disable(function: Callable | None = None, *_: Any, **__: Any) -> Any:
    # Decorates parts of diffusers that move weights between devices; not used here.
    return (lambda given: given) if function is None else function
