"""What ``ppl-hmm fit`` does around the fit: what goes on after Ctrl-C, its table, and files of models and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import xarray as xr
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ppl_hmm import schema
from ppl_hmm.base import atomic
from ppl_hmm.corpus.units import Unit
from ppl_hmm.errors import ForeignFile
from ppl_hmm.experiments.fits.corpus import fit_corpus
from ppl_hmm.plots import fits, style
from ppl_hmm.storage import files, netcdf

_TREE = "fit.nc"


def fit(
    texts: Sequence[str], unit: Unit, n_states: Sequence[int], out: Path, *, source: str, **options: Any
) -> xr.DataTree:
    """Fit models of each size, write them with their figures to ``out``, and return the tree.

    Until all are there, finished sizes, and draws, are kept in ``<out>.unfinished``, from which the same call goes on.

    Parameters
    ----------
    source
        Where the texts are from.
    options
        Of :func:`~ppl_hmm.fit_corpus`.
    """
    unfinished = out.with_name(f"{out.name}.unfinished")
    tree = fit_corpus(texts, unit, n_states, store=unfinished, **options)
    tree.attrs["corpus"] = source
    write(tree, out)
    atomic.remove(unfinished)
    return tree


def write(tree: xr.DataTree, out: Path) -> None:
    """Write the tree of :func:`~ppl_hmm.fit_corpus`, a file for each model, for its draws, and figures.

    Raises
    ------
    ForeignFile
        The place cannot be written; nothing is left of it.
    """
    try:
        with atomic.written_aside(out, "--out") as aside:
            aside.mkdir(parents=True)
            draws = tree.children.get(schema.DRAWS)
            without = tree.filter(lambda node: schema.DRAWS not in node.path.split("/"))
            files.save_tree(without, aside / _TREE)
            for n_states, fitted in ({} if draws is None else draws.children).items():
                files.save_tree(xr.DataTree.from_dict(fitted.to_dict(relative=True)), aside / f"draws-{n_states}.nc")
            for n_states, model in tree[schema.MODELS].children.items():
                netcdf.write(model.to_dataset(inherit=False), aside / f"model-{n_states}.nc")
            for name, figure in figures(tree):
                style.save(figure, aside / name)
    except ForeignFile as error:
        raise ForeignFile(f"--out {out}", *error.args[1:]) from None  # not the place where it is written aside


def show(tree: xr.DataTree, out: Path) -> None:
    """Print the table of a fit, and where its files are."""
    console = Console()
    console.print(table(tree))
    best = out / f"model-{tree.attrs['best']}.nc"
    of = "" if tree.attrs["method"] == "em" else " (the draw of highest posterior density)"
    console.print(f"results: {out}; lowest perplexity: {best}{of}, which audit and sample read", soft_wrap=True)


def figures(tree: xr.DataTree) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of a fit by name: of each model, of perplexities, and of the checks of the best model."""
    yield "perplexity", fits.draw_perplexity(tree[schema.HELD_OUT].to_dataset(), tree.attrs["unit"])
    yield "checks", fits.draw_checks(cast(xr.DataTree, tree[schema.PREDICTIVE_CHECKS]))
    for n_states, node in tree[schema.MODELS].children.items():
        model = node.to_dataset(inherit=False)
        yield f"emissions-{n_states}", fits.draw_emissions(model)
        yield f"transition-{n_states}", fits.draw_transition(model)


def table(tree: xr.DataTree) -> Table:
    """Return held-out perplexities by number of states, then those of the baselines."""
    attributes = tree.attrs
    caption = (
        f"{attributes['n_training_tokens']} {attributes['unit']}s to learn from, {attributes['n_held_out_tokens']} "
        f"held out in random blocks ({attributes['unknown_share']:.2%} unknown)\nse: standard error of the logarithm; "
        "starts: how many reached the best"
    )
    found, restarts = tree[schema.HELD_OUT].to_dataset(), tree[schema.RESTARTS].to_dataset()
    made = Table(title=f"Held-out perplexity per {attributes['unit']}", box=SIMPLE_HEAD, caption=caption)
    for heading in ("model", "perplexity", "se", "on training text", "starts"):
        made.add_column(heading, justify="right", no_wrap=True)
    n_restarts = restarts.sizes[schema.RESTART]
    for n_states in found[schema.N_STATES].values:
        row, own = found.sel({schema.N_STATES: n_states}), restarts.sel({schema.N_STATES: n_states})
        made.add_row(
            f"{n_states} state{'s' if n_states > 1 else ''}",
            *(f"{row[name].item():.4g}" for name in (schema.PERPLEXITY, f"log_{schema.PERPLEXITY}_se")),
            f"{row[f'training_{schema.PERPLEXITY}'].item():.4g}",
            f"{own['n_reached_best'].item()} of {n_restarts}",
        )
    for baseline in found[schema.BASELINE].values:
        row = found.sel({schema.BASELINE: baseline})
        names = (f"baseline_{schema.PERPLEXITY}", f"log_baseline_{schema.PERPLEXITY}_se")
        made.add_row(str(baseline), *(f"{row[name].item():.4g}" for name in names), "", "")
    return made
