"""Families of random models by name, and how to add one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from ppl_hmm.base.randomness import Seed, generator
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.models import HMM, MemoryHMM

Kind = TypeVar("Kind", HMM, MemoryHMM)
Function = TypeVar("Function", bound=Callable[..., Any])


class Regimes(Generic[Kind]):
    """The families of one kind of model: functions of its sizes, a random stream and options."""

    def __init__(self, kind: type[Kind], purpose: str, sizes: tuple[str, ...]) -> None:
        self._kind, self._purpose, self._sizes = kind, purpose, sizes
        self._functions: dict[str, Callable[..., Kind]] = {}

    def register(self, name: str) -> Callable[[Function], Function]:
        """Return the decorator that enters a function under ``name``; its own definition may be repeated."""
        if not isinstance(name, str):
            raise InvalidInput("name of a regime", "a string", repr(name), "decorate with @register('name')")

        def enter(function: Function) -> Function:
            self._require_signature(name, function)
            other = self._functions.get(name, function)
            if _place(other) != _place(function):
                raise InvalidInput(
                    f"regime {name!r}", "a name of its own", f"that of {_place(other)}", "choose another"
                )
            self._functions[name] = function
            return function

        return enter

    def build(self, name: str, sizes: tuple[int, ...], seed: Seed, options: dict[str, Any]) -> Kind:
        """Return a random model of the family ``name``.

        Raises
        ------
        InvalidInput
            Unknown regime or option (with the list); a function that returns something else than was asked for.
        """
        one_of("regime", name, self._functions)
        function = self._functions[name]
        require_options(f"options of regime {name!r}", function, options)
        model = function(*sizes, generator(seed, f"{self._purpose} {name}"), **options)
        self._require_result(name, model, dict(zip(self._sizes, sizes, strict=True)))
        return model

    def _require_signature(self, name: str, function: Callable[..., Any]) -> None:
        expected = f"a function of ({', '.join(self._sizes)}, stream, *, options with defaults)"
        try:
            inspect.signature(function).bind(*self._sizes, "stream")
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"regime {name!r}", expected, str(error), "change its parameters") from None

    def _require_result(self, name: str, model: object, sizes: dict[str, int]) -> None:
        if isinstance(model, self._kind):
            found = {size: getattr(model, size) for size in sizes}
            if found == sizes and not model.batch_shape:
                return
            got = f"{_listed(found)} and batch dimensions {model.batch_shape}"
        else:
            got = type(model).__name__
        expected = f"one {self._kind.__name__} with {_listed(sizes)}"
        raise InvalidInput(f"model of regime {name!r}", expected, got, "mend the function that is registered")


def require_options(what: str, function: Callable[..., Any], options: Iterable[str]) -> None:
    """Raise :class:`InvalidInput` unless options are keyword-only parameters of a function, and all without default."""
    own = [each for each in inspect.signature(function).parameters.values() if each.kind is each.KEYWORD_ONLY]
    unknown = sorted(set(options) - {each.name for each in own})
    if unknown:
        expected = f"only {', '.join(each.name for each in own) or 'none'}"
        raise InvalidInput(what, expected, ", ".join(unknown), "drop the others")
    missing = [each.name for each in own if each.default is each.empty and each.name not in options]
    if missing:
        raise InvalidInput(what, ", ".join(missing), "none", f"pass {missing[0]}=…")


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in sizes.items())


HMM_REGIMES = Regimes(HMM, "model", ("n_states", "vocabulary_size"))
MEMORY_REGIMES = Regimes(MemoryHMM, "memory model", ("n_states", "n_memory_values", "vocabulary_size", "n_cells"))


def register(name: str) -> Callable[[Function], Function]:
    """Register a random family of HMMs.

    Parameters
    ----------
    name
        Under which :func:`ppl_hmm.random_hmm` finds the family. Decorates a function
        ``(n_states, vocabulary_size, stream, *, options with defaults)`` that returns an :class:`~ppl_hmm.HMM` of these
        sizes and draws from ``stream``, a ``torch.Generator``, alone. Worker processes know the family when they import
        the module that registers it.

    Raises
    ------
    InvalidInput
        The name of another family, or a function with other parameters.

    See Also
    --------
    ppl_hmm.random_hmm : draw from a family
    register_memory : families of memory-augmented models

    Examples
    --------
    >>> import torch
    >>> from ppl_hmm import HMM, random_hmm
    >>> @register("sticky")
    ... def sticky(n_states, vocabulary_size, stream, *, stay=0.9):
    ...     moves = stay * torch.eye(n_states) + (1 - stay) / n_states
    ...     rows = torch.rand(n_states, vocabulary_size, generator=stream).softmax(-1)
    ...     return HMM(torch.ones(n_states) / n_states, moves, rows)
    >>> random_hmm("sticky", 2, 3, seed=0, stay=0.5).transition.tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    return HMM_REGIMES.register(name)


def register_memory(name: str) -> Callable[[Function], Function]:
    """Register a random family of memory-augmented models.

    As :func:`register`, for functions ``(n_states, n_memory_values, vocabulary_size, n_cells, stream, *, options)``.
    They return a :class:`~ppl_hmm.MemoryHMM`, and :func:`ppl_hmm.random_memory_hmm` finds them.
    """
    return MEMORY_REGIMES.register(name)
