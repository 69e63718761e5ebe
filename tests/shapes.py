"""Shapes that execute: each annotation of the kernels is checked at every call, in a fraction of the time of the call.

As jaxtyping's own decorator does, but that one checks arguments twice, and prepares the checks of an inner function
each time that it is defined: small calls then take two to eight times as long.
"""

import dataclasses
import functools
import inspect
import types
import typing

import beartype
import jaxtyping
from jaxtyping import AbstractArray, jaxtyped


def install(package):
    """Check what is called in ``package`` from here on; none of its modules may have been imported."""
    jaxtyping.jaxtyped = decorator
    jaxtyping.install_import_hook(package, None)
    metaclass = type(AbstractArray)
    metaclass.__instancecheck__ = remembering(metaclass.__instancecheck__)


def decorator(typechecker):
    """Return what jaxtyping's hook decorates each function and class with."""
    return checked


def remembering(is_instance):
    """Remember the answers of annotations that name no sizes: they depend on kind, precision and dimensions alone."""
    answers = {}

    def remembered(annotation, value):
        key = annotation, type(value), getattr(value, "dtype", None), getattr(value, "ndim", None)
        if key not in answers:
            if names_sizes(annotation):
                return is_instance(annotation, value)
            answers[key] = is_instance(annotation, value)
        return answers[key]

    return remembered


def names_sizes(annotation):
    """Say whether an annotation, or one inside it, names sizes, which must be the same wherever they are named."""
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return not set(annotation.dim_str.split()) <= {"...", "_"}
    if dataclasses.is_dataclass(annotation):  # a record of arrays: who takes one has sizes of its own
        return any(map(names_sizes, typing.get_type_hints(annotation).values()))
    return any(names_sizes(inner) for inner in typing.get_args(annotation))


def checked(defined):
    """Return a function whose arguments and result agree with its annotations, a size being the same in all of them."""
    if inspect.isclass(defined):
        if dataclasses.is_dataclass(defined) and "__init__" in vars(defined):
            defined.__init__ = checked(defined.__init__)
        return defined
    if not defined.__annotations__:
        return defined
    if inspect.isgeneratorfunction(defined):  # beartype alone would check its arguments later, in its caller's scope
        return jaxtyped(defined, typechecker=beartype.beartype)
    function = in_scope = None

    @functools.wraps(defined)
    def with_checks(*arguments, **options):
        nonlocal function, in_scope
        if function is None:  # not before the names in its annotations are defined
            function, in_scope = prepared(defined)
        if not in_scope:
            return function(*arguments, **options)
        with jaxtyped("context"):
            return function(*arguments, **options)

    return with_checks


_inner = {}


def prepared(defined):
    """Return beartype's function around another, and whether sizes are named; inner functions are prepared once."""
    if "<locals>" not in defined.__qualname__:
        hints = typing.get_type_hints(defined)  # beartype would look each name of a class up at every call
        defined.__annotations__ = hints
        return beartype.beartype(defined), any(map(names_sizes, hints.values()))
    if defined.__code__ not in _inner:
        _inner[defined.__code__] = defined, beartype.beartype(defined)
    first, known = _inner[defined.__code__]
    again = types.FunctionType(known.__code__, known.__globals__)
    again.__kwdefaults__ = {name: defined if value is first else value for name, value in known.__kwdefaults__.items()}
    assert defined in again.__kwdefaults__.values()
    return again, True
