"""Examples in docstrings run, and no public name is without one."""

import doctest
import importlib
from pathlib import Path

import pytest

import ppl_hmm

PACKAGE = Path(ppl_hmm.__file__).parent
#: Packages whose public names all have an example and say where to look next.
COMPLETE = ("heads", "inference", "language_models", "programs", "prompts")


def with_examples():
    """The modules with examples, found in their source: without a GPU not all of them can be imported."""
    files = [path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text()]
    return sorted(".".join(path.with_suffix("").parts) for path in files)


def of_complete_packages():
    homes = {name: getattr(getattr(ppl_hmm, name), "__module__", "") for name in ppl_hmm.__all__}
    return [name for name, home in homes.items() if home.split(".")[1:2] and home.split(".")[1] in COMPLETE]


@pytest.mark.parametrize("module", with_examples())
def test_examples_run(module):
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried
    assert not failed


@pytest.mark.parametrize("name", of_complete_packages())
def test_public_names_have_an_example_and_say_where_to_look(name):
    sections = [line.strip() for line in getattr(ppl_hmm, name).__doc__.splitlines()]
    assert {"Examples", "See Also"} <= set(sections)
