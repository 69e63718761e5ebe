"""Import paths of version 0.1: they lead to the modules' new places, with a warning, until version 0.3."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = "ppl_hmm"

# Modules whose path names nothing now.
_MODULES = {
    "accessor": "audits.accessor",
    "auditing": "audits.audit",
    "diagnostics": "audits",
    "diagnostics.arrays": "audits.arrays",
    "diagnostics.concepts": "inference.concepts",
    "diagnostics.labelled": "audits.groups",
    "diagnostics.questions": "audits.questions",
    "diagnostics.texts": "audits.texts",
    "exact.memory": "exact.mixture",
    "examples": "regimes.examples",
    "experiments.cells": "experiments.engine.cells",
    "experiments.cluster": "experiments.engine.cluster",
    "experiments.configurations": "experiments.figure3.configurations",
    "experiments.engine.hashed": "base.hashed",
    "experiments.grid": "experiments.engine.grid",
    "experiments.head_vs_prompt": "experiments.figure3.head_vs_prompt",
    "experiments.labelled": "experiments.figure3.text",
    "experiments.linear": "experiments.figure3.linear",
    "experiments.memory_vs_vanilla": "experiments.figure3.memory_vs_vanilla",
    "experiments.runner": "experiments.engine.runner",
    "experiments.store": "experiments.engine.store",
    "layout": "storage.layout",
    "long_text": "inference.segments",
    "models.distribution": "programs.distribution",
    "models.enumeration": "programs.enumeration",
    "parameters": "models",
    "parameters.concepts": "models.concepts",
    "parameters.distributions": "base.checks",
    "parameters.hmm": "models.hmm",
    "parameters.memory": "models.memory",
    "parameters.prompt": "models.prompt",
    "plots.answers_data": "audits.figures.answers_data",
    "plots.answers_drawing": "audits.figures.answers_drawing",
    "plots.audit_data": "audits.figures.model_data",
    "plots.audit_drawing": "audits.figures.model_drawing",
    "plots.audit_figures": "audits.figures.catalogue",
    "plots.audited": "audits.tree",
    "plots.data": "experiments.look.data",
    "plots.figures": "experiments.look.drawing",
    "plots.recoverability": "plots.simplex",
    "plots.summary": "experiments.look.summary",
    "plots.tables": "experiments.look.tables",
    "randomness": "base.randomness",
    "records": "base.records",
    "report": "audits.report",
    "rows": "inference.rows",
    "sampling": "inference.sampling",
    "text": "base.tokens",
}

# Paths that hold other names now, or name a package, and where their former names are.
_NAMES = {
    "heads.attention": ("heads.constructed",),
    "heads.linear": ("heads.constructed",),
    "inference": ("inference.queries",),
    "models.hmm": ("programs.hmm",),
    "models.memory": ("programs.memory",),
    "prompts": ("prompts.fitted", "prompts.constructed"),
    "storage": ("storage.files",),
}


def install() -> None:
    """Let the former paths of modules be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def former_names(module: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module whose path held other names in version 0.1."""
    homes = [f"{_PACKAGE}.{home}" for home in _NAMES[module.removeprefix(f"{_PACKAGE}.")]]

    def getattribute(name: str) -> Any:
        if not name.startswith("_"):
            for home in homes:
                found = getattr(import_module(home), name, None)
                if found is not None and not isinstance(found, ModuleType):
                    _warn(f"{module}.{name}", f"{home}.{name}")
                    return found
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return getattribute


class _Finder(Loader):
    def find_spec(
        self,
        fullname: str,
        path: object = None,  # noqa: ARG002 (the protocol of finders)
        target: object = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if _new_path(fullname) else None

    def exec_module(self, module: ModuleType) -> None:
        new = _new_path(module.__name__)
        assert new is not None  # the module was found
        sys.modules[module.__name__] = import_module(new)
        _warn(module.__name__, new)


def _new_path(module: str) -> str | None:
    """Return where a module has moved, by itself or with its package; None where it has not."""
    package, _, own = module.partition(".")
    if package != _PACKAGE:
        return None
    parent, _, leaf = own.rpartition(".")
    moved = _MODULES.get(own) or (f"{_MODULES[parent]}.{leaf}" if parent in _MODULES else None)
    return moved and f"{_PACKAGE}.{moved}"


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} has moved to {new}; the old path goes in version 0.3. Public names are best imported from {_PACKAGE}.",
        DeprecationWarning,
        stacklevel=3,  # the caller of the caller: who imports, or asks for the name
    )
