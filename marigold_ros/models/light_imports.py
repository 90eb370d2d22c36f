# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Import diffusers' networks in a third of the time, without what they do not use here.

diffusers imports all of its networks to get one, and for each whatever is installed: transformers,
peft, SciPy, torch's compiler. Here the packages of networks stay closed until a name in them is
asked for, and the others are replaced by classes that import the real ones when they are used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
import gc
from importlib import import_module, metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
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
# Their __init__ imports every module in them.
_CLOSED = (
    'diffusers.models.autoencoders',
    'diffusers.models.transformers',
    'diffusers.models.unets',
    'diffusers.hooks',
)
_COMPILER = 'torch._dynamo'
_LATER = ('transformers', 'peft', 'scipy', _COMPILER)
_allowed_in_graph: list[Any] = []


def import_networks() -> None:
    """Import the modules of diffusers that models need; nothing else changes."""
    if 'diffusers' in sys.modules:
        return
    before = set(sys.modules)
    try:
        with _later():
            for name in NETWORKS:
                import_module(name)
            _skip_unit_scales()
            # Each scheduler that is loaded asks for all others that know its settings.
            _ = import_module('diffusers').DDIMScheduler().compatibles
    except Exception:  # another diffusers, of another structure: imported as it is
        for name in set(sys.modules) - before:
            if name.partition('.')[0] == 'diffusers':
                del sys.modules[name]


def prepare_compiler() -> None:
    """Apply to torch's compiler what diffusers asked of it at import."""
    import torch

    while _allowed_in_graph:
        torch._dynamo.allow_in_graph(_allowed_in_graph.pop())


def _skip_unit_scales() -> None:
    """Keep diffusers from importing peft at each call of a network, for a factor of 1."""
    module = import_module('diffusers.utils.peft_utils')

    def unless_one(scale: Callable) -> Callable:
        def scale_by_factor(model: Any, weight: float | None = None) -> None:
            if weight is not None and weight != 1.0:
                scale(model, weight)

        return scale_by_factor

    for name in ('scale_lora_layers', 'unscale_lora_layers'):
        setattr(module, name, unless_one(getattr(module, name)))


@contextmanager
def _later() -> Iterator[None]:
    finder, packages = _Finder(), metadata.packages_distributions
    collecting = gc.isenabled()
    gc.disable()  # finds nothing among a thousand new modules
    sys.meta_path.insert(0, finder)
    metadata.packages_distributions = _Distributions
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        metadata.packages_distributions = packages
        if collecting:
            gc.enable()
        for name, module in finder.replaced.items():
            del sys.modules[name]
            package, _, last = name.rpartition('.')
            parent = vars(sys.modules[package]) if package in sys.modules else {}
            if parent.get(last) is module:
                del parent[last]


class _Finder(MetaPathFinder, Loader):
    """Finds packages that are installed, and opens or replaces them."""

    def __init__(self) -> None:
        self.replaced: dict[str, ModuleType] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _CLOSED and not any(f'{name}.'.startswith(f'{top}.') for top in _LATER):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader_state, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if spec.name in _CLOSED:
            return _ClosedPackage(spec.name)
        kind = _CompilerLater if spec.name == _COMPILER else _PackageLater
        self.replaced[spec.name] = kind(spec.name)
        return self.replaced[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        pass


class _ClosedPackage(ModuleType):
    """A package whose ``__init__`` runs when it is asked for a name that it lacks so far."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        if name.startswith('__') or spec is None or spec.loader_state is None:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        spec.loader, spec.loader_state = spec.loader_state, None
        self.__loader__ = spec.loader
        spec.loader.exec_module(self)
        return getattr(self, name)


class _PackageLater(ModuleType):
    """In place of a package: each name is a class in place of the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        return _Later(name, (), {'_package': self.__name__})


class _Later(type):
    """A class that is the one of the same name in another package once that is needed."""

    _package: str

    def _real(cls) -> Any:
        return getattr(import_module(cls._package), cls.__name__)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return getattr(cls._real(), name)

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return cls._real()(*arguments, **named)

    def __instancecheck__(cls, value: Any) -> bool:
        # Nothing is an instance of a class in a package that nobody has imported.
        return cls._package in sys.modules and isinstance(value, cls._real())


class _CompilerLater(ModuleType):
    """In place of torch's compiler: keeps in mind what it is to know of diffusers' classes."""

    @staticmethod
    def allow_in_graph(kind: Any) -> Any:
        _allowed_in_graph.append(kind)
        return kind

    @staticmethod
    def disable(function: Callable | None = None, *_: Any, **__: Any) -> Any:
        # Decorates parts of diffusers that move weights between devices; not used here.
        return (lambda given: given) if function is None else function


class _Distributions(Mapping[str, list[str]]):
    """The distributions of all packages, which take half a second to list, listed when asked."""

    @cached_property
    def _all(self) -> Mapping[str, list[str]]:
        return metadata.packages_distributions()

    def __getitem__(self, name: str) -> list[str]:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
