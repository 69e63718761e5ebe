"""What ``ppl-hmm audit`` does around the audit: its model and task from files, its report and figures to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr

from ppl_hmm import regimes, schema
from ppl_hmm.audits.over_posterior import report as fit_report
from ppl_hmm.audits.report import as_json
from ppl_hmm.base import atomic, hashed
from ppl_hmm.base.positions import Place
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.inference import sampling
from ppl_hmm.models.kinds import Model
from ppl_hmm.regimes import examples
from ppl_hmm.storage import files, netcdf
from ppl_hmm.tasks import Task, TaskOfModel, next_token_class, state_of_word

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


def read_fit(path: Path) -> xr.DataTree | None:
    """Return the tree of :func:`~ppl_hmm.fit_bayes` that a netCDF file or a Zarr directory holds; None of other files.

    Raises
    ------
    ForeignFile
        A directory that holds none.
    """
    if not path.is_dir():
        tree = netcdf.read(path)
        return tree if schema.POSTERIOR in tree.children else None
    tree = hashed.read(path)
    if tree is None:
        try:
            tree = xr.open_datatree(path, engine="zarr").load()
        except Exception:  # whatever a directory of something else leads to
            tree = xr.DataTree()
    if schema.POSTERIOR in tree.children:
        return tree
    got = f"a directory without a fit's group /{schema.POSTERIOR}"
    raise ForeignFile(f"file {path}", "a netCDF file", got, "pass one, or save what fit_bayes returns: .to_zarr(path)")


def question_of_fit(
    fit: xr.DataTree, next_tokens: list[int] | None, word: int | None, task: Path | None
) -> TaskOfModel:
    """Return the question that is put to a fit: of a class of tokens, or of a token, by default the most frequent."""
    if task is not None or (next_tokens is not None and word is not None):
        got = "--task" if task is not None else "both"
        raise InvalidInput("ppl-hmm audit of a fit", "--next-tokens or --word", got, "draws do not share their states")
    if next_tokens is not None:
        return next_token_class(next_tokens)
    if word is None:
        tokens = fit[schema.OBSERVED_DATA].to_dataset()[schema.TOKEN].values
        word = int(np.bincount(tokens[tokens >= 0]).argmax())
    return state_of_word(word)


def printed(tree: xr.DataTree, out: Path | None, *, as_json_alone: bool, verbose: bool, width: int) -> str:
    """Return what the command prints of an audit; with ``out``, write that, the tree and its figures."""
    of_fit = schema.RECOVERABILITY_POSTERIOR in tree.children
    if as_json_alone:
        plain = fit_report.as_json(tree) if of_fit else as_json(tree)
        text, name = json.dumps(plain, ensure_ascii=False, indent=2), "report.json"
    else:
        text, name = tree.ppl_hmm.report(verbose=verbose, width=width), "report.txt"
    if out is None:
        return text
    _write(tree, out, name, text)
    return text if as_json_alone else f"{text}\n\nresults: {out}"


def _write(tree: xr.DataTree, out: Path, report_name: str, text: str) -> None:
    """Write an audit, its report and its figures to a new directory, all or nothing."""
    from ppl_hmm.audits.figures import catalogue
    from ppl_hmm.audits.over_posterior import figures as fit_figures
    from ppl_hmm.plots import style

    try:
        with atomic.written_aside(out, "--out") as aside:
            aside.mkdir(parents=True)
            (aside / report_name).write_text(text + "\n", encoding="utf-8")
            files.save_tree(tree, aside / "audit.nc")
            if schema.RECOVERABILITY_POSTERIOR in tree.children:
                for name in fit_figures.FIT_FIGURES:
                    style.save(fit_figures.draw_fit(name, tree), aside / name)
                return
            if (refutation := tree.ppl_hmm.refutation) is not None:
                refutation.save(aside / "refutation.json")
            for name in catalogue.available(tree):
                style.save(catalogue.draw_audit(name, tree), aside / name)
    except ForeignFile as error:
        raise ForeignFile(f"--out {out}", *error.args[1:]) from None  # not the place where it is written aside
