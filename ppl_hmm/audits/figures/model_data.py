"""What the figures of an audit show of the model, the task and the texts, as labelled data.

A function from the audit's tree for each figure. It raises :class:`~ppl_hmm.errors.InvalidInput` where the tree has not
what the figure shows, and says which figure to draw instead.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.arrays import without_own
from ppl_hmm.audits.tree import Audited
from ppl_hmm.errors import InvalidInput
from ppl_hmm.plots.simplex import decision_boundaries
from ppl_hmm.plots.style import CLASS_STYLES
from ppl_hmm.tasks import Task

# Bins of margins on each side of zero, at least; and in each decade, at least.
_BINS, _BINS_OF_DECADE = 24, 4


def singular_values(tree: xr.DataTree) -> xr.Dataset:
    """Return the spectra of the model's matrices, relative to the largest singular value of each.

    Returns
    -------
    xarray.Dataset
        ``share`` (matrix, singular_value): σ_i/σ_1, 0 for what n rows in fewer dimensions cannot have, NaN beyond n;
        ``sigma_min``, ``n_rows`` and ``same_as`` (matrix), the first matrix with this spectrum; coordinate
        ``tolerance``, the shares below which singular values are not counted.
    """
    found = Audited(tree).group(f"{schema.DIAGNOSTICS}/conditioning")
    values, n_rows = found["singular_values"], found["n_rows"]
    longest = max(int(n_rows.max()), values.sizes[schema.SINGULAR_VALUE])
    values = values.pad({schema.SINGULAR_VALUE: (0, longest - values.sizes[schema.SINGULAR_VALUE])})
    index = xr.DataArray(np.arange(longest), dims=schema.SINGULAR_VALUE)
    values = values.fillna(0).where(index < n_rows)
    largest = values.max(schema.SINGULAR_VALUE)
    names = found[schema.MATRIX].values
    first = [next(other for other in names if _same(values, name, other)) for name in names]
    return xr.Dataset(
        {
            "share": values / largest.where(largest > 0, 1),
            "sigma_min": found["sigma_min"],
            "n_rows": n_rows,
            "same_as": (schema.MATRIX, first),
        },
        coords={schema.RANK_TOLERANCE: found[schema.RANK_TOLERANCE]},
    )


def margins(tree: xr.DataTree) -> xr.Dataset:
    """Return the law of the margin by class, in units of ‖μ‖_∞; signed for two classes.

    Returns
    -------
    xarray.Dataset
        ``share`` (class, bin): of all texts, those that are decidable, by class and margin, in bins from ``left`` to
        ``right`` (bin) that are equal on a logarithmic scale between ``resolution`` and 1; ``undecidable``, the share
        of texts within ``tolerance`` of zero, which have no class.
    """
    audited = Audited(tree)
    task, decidable = audited.task, audited.decidable
    scale = float(task.scale) or 1.0
    sizes = audited.margins / scale
    tolerance = audited.group(f"{schema.DIAGNOSTICS}/margins").attrs["tolerance"] / scale
    smallest = np.abs(sizes[decidable]).min(initial=0.1)
    resolution = max(tolerance, 10.0 ** np.floor(np.log10(smallest)))
    n_bins = _BINS_OF_DECADE * max(-np.log10(resolution), _BINS / _BINS_OF_DECADE)
    outer = np.geomspace(resolution, 1, int(np.ceil(n_bins)) + 1)
    outer[-1] = max(1.0, np.abs(sizes).max(initial=0))  # rounding may put a margin just past its largest
    edges = np.r_[-outer[::-1], outer] if task.n_classes == 2 else outer
    labels, weights = audited.labels, audited.weights * decidable
    shares = [np.histogram(sizes[labels == c], edges, weights=weights[labels == c])[0] for c in range(task.n_classes)]
    return xr.Dataset(
        {
            "share": ((schema.CLASS, "bin"), np.array(shares)),
            "left": ("bin", edges[:-1]),
            "right": ("bin", edges[1:]),
            "tolerance": ((), tolerance),
            "resolution": ((), resolution),
            "undecidable": ((), audited.weights @ ~decidable),
        },
        coords={schema.CLASS: np.arange(task.n_classes)},
        attrs={"texts": audited.texts},
    )


def simplex(tree: xr.DataTree) -> xr.Dataset:
    """Return posteriors of three states, or of three values of a memory cell, and where the task's class changes.

    Returns
    -------
    xarray.Dataset
        The law ``posterior`` (sequence, latent) and ``label`` (sequence) of the audit's texts, then of those of the
        witness; ``weights`` (class, latent) of the task; ``boundary`` (piece, end, latent); ``witness`` (witness_text),
        numbers of the sequences of the witness.

    Raises
    ------
    InvalidInput
        The task asks of two, or of more than three values, or has more classes than there are colours.
    """
    audited = Audited(tree)
    task, law = audited.task, audited.law
    if law.shape[1] != 3:
        raise InvalidInput(
            "posteriors in a triangle",
            "a task on three states or three values",
            f"one on {law.shape[1]}",
            "draw 'linear-map', which takes any number",
        )
    if task.n_classes > len(CLASS_STYLES):
        raise InvalidInput(
            "posteriors in a triangle",
            f"at most {len(CLASS_STYLES)} classes",
            str(task.n_classes),
            "draw 'margins', which takes any number",
        )
    weights, (of_witness, their_labels) = task.weights.numpy(), audited.witness
    return xr.Dataset(
        {
            "posterior": ((schema.SEQUENCE, "latent"), np.concatenate([law, of_witness])),
            "label": (schema.SEQUENCE, np.concatenate([audited.labels, their_labels])),
            "weights": ((schema.CLASS, "latent"), weights),
            "boundary": (("piece", "end", "latent"), decision_boundaries(weights)),
            "witness": (schema.WITNESS_TEXT, np.arange(len(law), len(law) + len(of_witness))),
        },
        coords=audited.value_names,
        attrs={"latent": audited.latent, "texts": audited.texts},
    )


def linear_map(tree: xr.DataTree) -> xr.Dataset:
    """Return margins against what the best linear map from G makes of them, and the variance that it keeps.

    Returns
    -------
    xarray.Dataset
        ``margin`` and ``reconstruction`` (sequence), in the task's units: (w_y − w_r)ᵀP and (w_y − w_r)ᵀCG for the
        texts whose context is possible, y the class and r the runner-up, or μᵀP and μᵀCG for two classes; ``label``
        (sequence); ``kept`` (latent): share of the variance of each entry of P that CG keeps, ``margin_kept`` that of
        ``margin``; ``wrong``: share of decidable texts that the reconstruction takes for the other class.
    """
    audited = Audited(tree)
    found = audited.group(f"{schema.DIAGNOSTICS}/linear_map", "choose texts with possible contexts")
    task, features = audited.task, audited.features()
    possible = features.sum(1) > 0
    forms = _forms(task, audited.law, audited.labels)
    exact, linear = (forms * audited.law).sum(1), (forms * (features @ found["matrix"].values.T)).sum(1)
    positive = audited.labels == 1 if task.n_classes == 2 else np.ones(len(exact), dtype=bool)
    weights = audited.weights * possible / (audited.weights @ possible)
    left, variance = weights @ (exact - linear) ** 2, weights @ (exact - weights @ exact) ** 2
    return xr.Dataset(
        {
            "margin": (schema.SEQUENCE, exact[possible]),
            "reconstruction": (schema.SEQUENCE, linear[possible]),
            "label": (schema.SEQUENCE, audited.labels[possible]),
            "kept": ("latent", found["kept"].values),
            "margin_kept": ((), 1 - left / variance if variance > 0 else 1.0),
            "wrong": ((), audited.share((linear >= 0) != positive, audited.decidable & possible)),
        },
        coords=audited.value_names,
        attrs={"latent": audited.latent, "n_classes": task.n_classes},
    )


def lengths(tree: xr.DataTree) -> xr.Dataset:
    """Return information, accuracies and what truncation costs, each with its standard error, by length read.

    Variables as in the groups ``diagnostics/information`` and ``diagnostics/forgetting``.
    """
    audited = Audited(tree)
    groups = [audited.group(f"{schema.DIAGNOSTICS}/{name}") for name in ("information", "forgetting")]
    symbol = "M" if audited.latent == "value" else "H_0" if audited.task.place.position is None else "H_t"
    return xr.merge(groups, combine_attrs="drop").assign_attrs(texts=audited.texts, latent=symbol)


def _same(values: xr.DataArray, name: str, other: str) -> bool:
    first, second = (values.sel({schema.MATRIX: each}).values for each in (name, other))
    return np.array_equal(first, second, equal_nan=True)


def _forms(task: Task, law: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the form (B,n) of each text's margin: μ for two classes, else w_y − w_r, r the runner-up."""
    weights = task.weights.numpy()
    if task.n_classes == 2:
        return np.broadcast_to(task.contrast.numpy(), law.shape)
    return weights[labels] - weights[without_own(law @ weights.T, labels).argmax(1)]
