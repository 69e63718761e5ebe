"""What ``ppl-hmm audit`` does around the audit: its model and task from files, its report and figures to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import xarray as xr

from ppl_hmm import regimes
from ppl_hmm.audits.audit import audit
from ppl_hmm.audits.report import as_json, report
from ppl_hmm.base import atomic
from ppl_hmm.base.positions import Place
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.inference import sampling
from ppl_hmm.models.kinds import Model
from ppl_hmm.regimes import examples
from ppl_hmm.storage import files
from ppl_hmm.storage.texts import load_texts
from ppl_hmm.tasks import Task

if TYPE_CHECKING:
    from ppl_hmm.base.positions import Given

_TASK_TEXTS = 1000  # that a random task must divide


def model_and_task(
    model: Path | None, task: Path | None, example: str | None, place: Place, length: int, seed: int
) -> tuple[Model, Task]:
    """Return what to audit; a random task is one that divides sampled texts."""
    if example is not None:
        return examples.example(example)
    source = files.load_model(str(model))
    if task is not None:
        return source, files.load_task(task)
    texts = sampling.sample(source, _TASK_TEXTS, length, seed).tokens
    return source, regimes.random_task(source, seed, texts, position=place.position, given=place.given)


def require_one_task(task: Path | None, example: str | None, position: int | None) -> None:
    """Raise :class:`InvalidInput` where a task is given twice."""
    if example is not None and task is not None:
        raise InvalidInput("ppl-hmm audit", "--task or --example", "both", "an example brings its task")
    if position is not None and (example is not None or task is not None):
        raise InvalidInput("ppl-hmm audit", "--position for a random task", "a given task", "leave it out")


def audited(
    model: Path | None,
    task: Path | None,
    example: str | None,
    place: tuple[int | None, str],
    text: Path | None,
    options: dict[str, Any],
) -> xr.DataTree:
    """Return the audit of a model and a task from files, or of an example."""
    chosen = Place(place[0], cast("Given", place[1]))
    source, question = model_and_task(model, task, example, chosen, options["length"], options["seed"])
    tree = audit(source, question, None if text is None else load_texts(text), **options)
    if example is None and task is None:
        tree.attrs["task"] = f"random, seed {options['seed']}"
    return tree


def printed(tree: xr.DataTree, out: Path | None, *, as_json_alone: bool, verbose: bool, width: int) -> str:
    """Return what the command prints of an audit; with ``out``, write that, the tree and its figures."""
    if as_json_alone:
        text, name = json.dumps(as_json(tree), ensure_ascii=False, indent=2), "report.json"
    else:
        text, name = report(tree, verbose=verbose, width=width), "report.txt"
    if out is None:
        return text
    _write(tree, out, name, text)
    return text if as_json_alone else f"{text}\n\nresults: {out}"


def _write(tree: xr.DataTree, out: Path, report_name: str, text: str) -> None:
    """Write an audit, its report and its figures to a new directory, all or nothing."""
    from ppl_hmm.audits.figures import catalogue
    from ppl_hmm.plots import style

    try:
        with atomic.written_aside(out, "--out") as aside:
            aside.mkdir(parents=True)
            (aside / report_name).write_text(text + "\n", encoding="utf-8")
            files.save_tree(tree, aside / "audit.nc")
            if (refutation := tree.ppl_hmm.refutation) is not None:
                refutation.save(aside / "refutation.json")
            for name in catalogue.available(tree):
                style.save(catalogue.draw_audit(name, tree), aside / name)
    except ForeignFile as error:
        raise ForeignFile(f"--out {out}", *error.args[1:]) from None  # not the place where it is written aside
