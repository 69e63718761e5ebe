"""Save and load models, tasks, prompts, heads and vocabularies as netCDF files, readable by plain xarray."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import xarray as xr

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.base.atomic import as_path
from ppl_hmm.corpus.vocabulary import Vocabulary
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.heads.attention import AttentionHead
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.models import HMM, ConceptHMM, MealyHMM, MemoryHMM, MemoryPrompt, SoftPrompt
from ppl_hmm.storage import netcdf
from ppl_hmm.tasks import MemoryTask, PosteriorTask

#: What files hold.
Loaded = HMM | MealyHMM | MemoryHMM | PosteriorTask | MemoryTask | SoftPrompt | LinearHead | AttentionHead | Vocabulary

# A file is recognised by its variables and dimensions, so that files written by plain xarray load as well. What asks
# for more comes first.
_KINDS = {
    frozenset({"memory_prior", "initial", "transition", "cell_of_state", "emission"}): MemoryHMM,
    frozenset({"initial", "transition", "emission", "concept_of_state"}): ConceptHMM,
    frozenset({"initial", "transition", "emission"}): HMM,
    frozenset({"initial", "matrices"}): MealyHMM,
    frozenset({"weights", "target_cell"}): MemoryTask,
    frozenset({"weights"}): PosteriorTask,
    frozenset({"rows", schema.MEMORY_VALUE}): MemoryPrompt,
    frozenset({"rows"}): SoftPrompt,
    frozenset({"score_weights", "value_weights", "intercepts", "classes"}): AttentionHead,
    frozenset({"coefficients", "intercepts", "classes"}): LinearHead,
    frozenset({schema.TOKEN, "unit"}): Vocabulary,
}


class Storable(Protocol):
    """Anything that writes itself as a labelled dataset."""

    def to_dataset(self) -> xr.Dataset:
        """Return the object as a dataset."""
        ...


def save(obj: Storable, path: str | Path) -> None:
    """Write a model, task, prompt, head or vocabulary to a netCDF file at ``path``, replacing what is there.

    The file is complete or not written: after an error the old one is still there.

    Raises
    ------
    ForeignFile
        The object is none of these, or the place cannot be written.

    See Also
    --------
    load : Reads such files.

    Examples
    --------
    >>> import tempfile
    >>> from ppl_hmm import example, save
    >>> model, task = example("aliased")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, f"{folder}/model.nc")
    ...     save(task, f"{folder}/task.nc")
    """
    if not isinstance(obj, tuple(_KINDS.values())):
        raise ForeignFile(
            "object to save",
            ", ".join(sorted(kind.__name__ for kind in _KINDS.values())),
            type(obj).__name__,
            "save its parts",
        )
    netcdf.write(obj.to_dataset().assign_attrs(package="ppl_hmm", version=__version__), path)


def load(path: str | Path) -> Loaded:
    """Return what a netCDF file holds: a model, task, prompt, head or vocabulary; of a sample's file, its model.

    Raises
    ------
    ForeignFile
        Not a netCDF file, a damaged one, an audit, or none with the variables of these objects.
    InvalidInput
        The variables are there but not valid (which, why).

    See Also
    --------
    save : Writes such files.
    open_audit, open_results : The trees of audits and experiments.

    Examples
    --------
    >>> import tempfile
    >>> from ppl_hmm import load, random_hmm, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(random_hmm("dirichlet", 3, 4, seed=0), f"{folder}/model.nc")
    ...     load(f"{folder}/model.nc").n_states
    3
    """
    tree = netcdf.read(path)
    if schema.RECOVERABILITY in tree.children:
        raise ForeignFile(
            f"file {path}", "a model, task, prompt or head", "an audit", "open_audit(path) returns its tree"
        )
    return _of_tree(tree, path)


def load_model(path: str | Path) -> HMM | MemoryHMM:
    """Return the model of a netCDF file, or of the ``/model`` group of a tree's, an audit's among them.

    Raises
    ------
    ForeignFile, InvalidInput
        As :func:`load`; the file is of something else (what).
    """
    model = _of_tree(netcdf.read(path), path)
    if not isinstance(model, HMM | MemoryHMM):
        raise InvalidInput(f"file {path}", "a model", type(model).__name__, "pass a file of an HMM or MemoryHMM")
    return model


def load_process(path: str | Path) -> HMM | MealyHMM:
    """Return the model without a memory, or the Mealy machine, of a netCDF file; errors as :func:`load_model`."""
    model = _of_tree(netcdf.read(path), path)
    if not isinstance(model, HMM | MealyHMM):
        raise InvalidInput(f"file {path}", "an HMM or MealyHMM", type(model).__name__, "pass a file of one of these")
    return model


def load_task(path: str | Path) -> PosteriorTask | MemoryTask:
    """Return the task of a netCDF file; errors as :func:`load_model`."""
    task = load(path)
    if not isinstance(task, PosteriorTask | MemoryTask):
        raise InvalidInput(
            f"file {path}", "a task", type(task).__name__, "pass a file of a PosteriorTask or MemoryTask"
        )
    return task


def _of_tree(tree: xr.DataTree, path: str | Path) -> Loaded:
    """Return what the variables of a tree are, or those of its group ``/model``."""
    dataset = (tree[schema.MODEL] if schema.MODEL in tree.children else tree).to_dataset()
    found = frozenset(map(str, [*dataset.variables, *dataset.dims]))
    for variables, kind in _KINDS.items():
        if variables <= found:
            return kind.from_dataset(dataset)
    groups = [name for name in tree.groups if name != "/"]
    found_here = ", ".join(sorted(map(str, dataset.variables))) or "none"
    wanted = "; or ".join(", ".join(sorted(variables)) for variables in _KINDS)
    raise ForeignFile(
        f"file {path}",
        f"variables {wanted}",
        found_here + (f" (groups {', '.join(groups)})" if groups else ""),
        f"put them at the root or in a group /{schema.MODEL}; the documentation of HMM has the names",
    )


def save_tree(tree: xr.DataTree, path: str | Path) -> None:
    """Write a tree to a new netCDF file.

    Raises
    ------
    ForeignFile
        There is a file already, or the place cannot be written.
    """
    path = as_path(path)
    if path.exists():
        raise ForeignFile(f"file {path}", "a new file", "one that exists", "remove it, or choose another name")
    netcdf.write(tree, path)
