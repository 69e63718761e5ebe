"""Examples in docstrings run, and no public name is without one."""

import doctest
import importlib
from pathlib import Path

import pytest

import ppl_hmm
from ppl_hmm.regimes import registry

PACKAGE = Path(ppl_hmm.__file__).parent


def is_error(value):
    return isinstance(value, type) and issubclass(value, Exception)


#: All public names but a number and the exceptions.
EXPLAINED = [name for name in ppl_hmm.__all__ if callable(value := getattr(ppl_hmm, name)) and not is_error(value)]


def with_examples():
    """The modules with examples, found in their source: without a GPU not all of them can be imported."""
    files = [path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text()]
    return sorted(".".join(path.with_suffix("").parts) for path in files)


@pytest.mark.parametrize("module", with_examples())
def test_examples_run(module, monkeypatch):
    for regimes in (registry.HMM_REGIMES, registry.MEMORY_REGIMES):  # an example registers one
        monkeypatch.setattr(regimes, "_functions", dict(regimes._functions))
    failed, tried = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert tried
    assert not failed


@pytest.mark.parametrize("name", EXPLAINED)
def test_public_names_have_an_example_and_say_where_to_look(name):
    sections = [line.strip() for line in getattr(ppl_hmm, name).__doc__.splitlines()]
    assert {"Examples", "See Also"} <= set(sections)
