"""Draw what an audit says of the model, the task and the texts.

The data are those of :mod:`ppl_hmm.audits.figures.model_data`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ppl_hmm import schema
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.simplex import draw_posterior_simplex, simplex_coordinates
from ppl_hmm.plots.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    REFERENCE,
    SKY,
    SMALL,
    VERMILION,
    class_style,
    number_or_name,
    scatter_by_class,
)

_MATRICES: dict[str, tuple[str, dict[str, Any]]] = {
    "emission": ("$W$", {"color": BLUE, "marker": "o", "markersize": 4}),
    "emission_entered": ("$W[S]$", {"color": SKY, "marker": "s", "markersize": 7}),
    "emission_entered_after_prompt": ("$W[S]$ after the prompt", {"color": VERMILION, "marker": "D", "markersize": 10}),
    "emission_next": ("$AW$", {"color": GREEN, "marker": "^", "markersize": 8}),
    "transition": ("$A$", {"color": PURPLE, "marker": "v", "markersize": 6}),
}
_ROUNDING = 1e-16  # smaller shares of the largest singular value, and smaller distances, are drawn here
_MIDDLE = 0.16  # half the width of the strip of undecidable margins, as a share of that of a sign
_ENLARGED = 0.25  # what reaches less far than this from its middle is drawn larger; the triangle reaches 0.5
_TWO_SIDED_95 = 1.96


def draw_singular_values(data: xr.Dataset) -> Figure:
    """Draw spectra as falling lines, equal ones as one, on a logarithmic scale, and the tolerances that they meet."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes, shares = figure.subplots(), data["share"].clip(min=_ROUNDING)
    names = list(map(str, data[schema.MATRIX].values))
    for name in dict.fromkeys(map(str, data["same_as"].values)):
        same = [_MATRICES[other][0] for other in names if data["same_as"].sel({schema.MATRIX: other}) == name]
        values = shares.sel({schema.MATRIX: name}).dropna(schema.SINGULAR_VALUE).values
        axes.plot(
            1 + np.arange(len(values)), values, label=" = ".join(same), markerfacecolor="none", **_MATRICES[name][1]
        )
    smallest, tolerances = float(shares.min()), data[schema.RANK_TOLERANCE].values
    for tolerance in tolerances[tolerances >= min(smallest, tolerances.max())]:
        axes.axhline(tolerance, **REFERENCE)
        _note(axes, f"tolerance {tolerance:g}", tolerance)
    if smallest <= _ROUNDING:
        axes.axhspan(_ROUNDING / 5, 2.2e-15, color="0.92", zorder=0)
        _note(axes, "zero, up to rounding", _ROUNDING / 5)
    sigma_min = data["sigma_min"].sel({schema.MATRIX: "emission"}).item()
    axes.set(
        yscale="log",
        ylim=(_ROUNDING / 5 if smallest <= _ROUNDING else None, 3),
        xlabel="number of the singular value",
        ylabel="singular value / the largest",
        title=rf"Can states be told apart? $\sigma_{{\min}}(W)$ = {sigma_min:.2g}",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    return figure


def draw_margins(data: xr.Dataset) -> Figure:
    """Draw histograms of margins on a logarithmic scale: signed on one axis for two classes, else an axis a class.

    Undecidable texts are one bar apart, in the middle. Classes are facets and colours of an arviz-plots
    ``PlotCollection``, on axes made here: without pyplot's state.
    """
    from arviz_plots import visuals  # takes seconds
    from arviz_plots.plot_collection import PlotCollection

    classes, resolution = data[schema.CLASS].values, data["resolution"].item()
    signed = len(classes) == 2
    figure = Figure(figsize=(8, 4 if signed else 1.4 + 1.5 * len(classes)), layout="constrained")
    grid = figure.subplots(1 if signed else len(classes), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    parts = [100 * data["share"], _on_axis(data["left"], resolution), _on_axis(data["right"], resolution)]
    histogram = xr.concat(parts, "plot_axis", coords="minimal", compat="override").rename("margin")
    plots = ((), grid[0]) if signed else (schema.CLASS, grid)
    collection = PlotCollection(
        histogram.assign_coords(plot_axis=["histogram", "left_edges", "right_edges"]).to_dataset(),
        xr.DataTree(xr.Dataset({"figure": np.array(figure, dtype=object), "plot": plots}, {schema.CLASS: classes})),
        aes={"color": [schema.CLASS], "label": [schema.CLASS]},
        color=[class_style(c)[0] for c in classes],
        label=[f"class {c}" for c in classes],
        backend="matplotlib",
    )
    collection.map(visuals.hist, edgecolor="none")
    half_width, undecidable = _MIDDLE * -np.log10(resolution), 100 * data["undecidable"].item()
    undecided = f"undecidable: at most {data['tolerance'].item():.0e} from zero"
    for axes in grid:
        axes.axvspan(-half_width if signed else 0, half_width, color="0.93", zorder=0)
        left = -0.6 * half_width if signed else 0.2 * half_width
        width = (1.2 if signed else 0.6) * half_width
        axes.bar(left, undecidable, width, align="edge", color="0.4", label=undecided)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("texts (%)")
    _label_margins(grid[-1], signed, data)
    figure.suptitle(f"How clear are the labels of {data.attrs['texts']}? {undecidable:.3g} % undecidable", fontsize=11)
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    ordered = dict(sorted(handles.items()))
    figure.legend(ordered.values(), ordered.keys(), loc="outside lower center", ncols=4, fontsize=SMALL, frameon=False)
    return figure


def draw_simplex(data: xr.Dataset) -> Figure:
    """Draw posteriors as points of a triangle by class, where the class changes, and the texts of the witness.

    Beside it what the posteriors reach is drawn larger, where that is a small part of the triangle.
    """
    n_witness = data.sizes[schema.WITNESS_TEXT]
    points = simplex_coordinates(data["posterior"].values)
    low, high = points.min(0), points.max(0)
    half_width = 0.6 * max((high - low).max(), 1e-3)
    enlarged = half_width < _ENLARGED
    figure = Figure(figsize=(10.4 if enlarged else 5.6, 5.2), layout="constrained")
    grid = figure.subplots(1, 2 if enlarged else 1, squeeze=False)[0]
    for axes in grid:
        draw_posterior_simplex(
            data["posterior"].values,
            data["label"].values,
            state_names=[f"{data.attrs['latent']} {number}" for number in range(3)]
            if schema.LATENT not in data.coords
            else list(map(str, data[schema.LATENT].values)),
            group_names=[f"class {c}" for c in range(data.sizes[schema.CLASS])],
            weights=data["weights"].values,
            marked=data["witness"].values.tolist(),
            axes=axes,
        )
        axes.get_legend().remove()
    if enlarged:
        centre = (low + high) / 2
        corner = centre - half_width
        grid[0].add_patch(
            Rectangle(corner, 2 * half_width, 2 * half_width, fill=False, edgecolor="black", linewidth=0.8)
        )
        grid[1].set(xlim=(corner[0], corner[0] + 2 * half_width), ylim=(corner[1], corner[1] + 2 * half_width))
        grid[1].set(xticks=[], yticks=[], title="the square, enlarged")
        grid[1].set_axis_on()
        grid[1].spines[:].set_visible(True)
        for text in grid[1].texts:
            text.set_clip_on(True)
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=SMALL, frameon=False
    )
    proof = f"\nNo linear head on $G$ classifies the {n_witness} ringed texts" if n_witness else ""
    figure.suptitle(f"Posteriors of {data.attrs['texts']}{proof}", fontsize=11)
    return figure


def draw_linear_map(data: xr.Dataset) -> Figure:
    """Draw each text's margin against its best linear reconstruction from G, and the variance kept of each value."""
    figure = Figure(figsize=(9.5, 4.4), layout="constrained")
    texts, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    scatter_by_class(texts, data["margin"].values, data["reconstruction"].values, data["label"].values)
    texts.axline((0, 0), slope=1, color="black", linewidth=0.8, label="no loss")
    texts.axhline(0, **REFERENCE)
    texts.axvline(0, **REFERENCE)
    texts.set(
        xlabel=r"margin $\mu^\top P$" if data.attrs["n_classes"] == 2 else "margin over the runner-up",
        ylabel="margin of the reconstruction $CG$",
        title=f"{data['margin_kept'].item():.1%} of the margin's variance is linear in $G$,\n"
        f"{data['wrong'].item():.1%} of texts change sign",
    )
    kept = data["kept"].values
    bars.bar(np.arange(len(kept)), 100 * kept, color=BLUE, width=0.7)
    bars.axhline(100, **REFERENCE)
    bars.set(
        xlabel=data.attrs["latent"],
        ylabel="variance kept (%)",
        ylim=(0, 105),
        title=f"What $G$ keeps of the posterior\nof each {data.attrs['latent']}",
    )
    number_or_name(bars, data["kept"])
    figure.legend(loc="outside lower center", ncols=5, fontsize=SMALL, frameon=False)
    return figure


def draw_lengths(data: xr.Dataset) -> Figure:
    """Draw information, accuracies and the effect of truncation, with 95 % intervals, by number of tokens read."""
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    information, accuracy, distance = figure.subplots(1, 3)
    _draw_series(information, data, "information", BLUE, "o", "information in the text")
    information.axhline(data["prior_entropy"].item(), label="entropy of the prior", **REFERENCE)
    information.set(ylabel="nats", title=f"What text tells of ${data.attrs['latent']}$", ylim=(0, None))
    _draw_series(accuracy, data, "bayes_accuracy", GREEN, "^", f"best guess of ${data.attrs['latent']}$ right", 100)
    _draw_series(accuracy, data, "same_label", ORANGE, "s", "same answer as after all tokens", 100)
    accuracy.set(ylabel="texts (%)", title="Guesses and answers", ylim=(None, 102))
    _draw_series(
        distance, data.isel({schema.LENGTH: slice(None, -1)}), "truncation_distance", VERMILION, "D", "distance"
    )
    _scale_distance(distance, data["truncation_distance"].values[:-1])
    second = data["second_eigenvalue"].item()
    distance.set(ylabel="total variation to the whole text's", title=rf"Forgetting: $|\lambda_2(A)|$ = {second:.3g}")
    lengths = data[schema.LENGTH].values
    shown = [
        each for each in lengths if each == lengths[-1] or np.log2(lengths[-1] / each) > 0.09 * np.log2(lengths[-1])
    ]
    for axes in (information, accuracy, distance):
        axes.set_xscale("log", base=2)
        axes.set_xticks(shown, list(map(str, shown)))
        axes.xaxis.minorticks_off()
        axes.set_xlabel("tokens read")
    figure.legend(loc="outside lower center", ncols=5, fontsize=SMALL, frameon=False)
    return figure


def _draw_series(
    axes: Axes, data: xr.Dataset, name: str, colour: str, marker: str, label: str, unit: float = 1
) -> None:
    """Draw a variable by length with its interval, which is drawn no lower than zero."""
    lengths, values = data[schema.LENGTH].values, unit * data[name].values
    half_width = _TWO_SIDED_95 * unit * data[f"{name}_se"].values
    axes.plot(lengths, values, color=colour, marker=marker, markersize=5, label=label)
    low = np.maximum(values - half_width, 0)
    axes.fill_between(lengths, low, values + half_width, color=colour, alpha=0.2, linewidth=0)


def _scale_distance(axes: Axes, distances: np.ndarray) -> None:
    """Take a logarithmic scale for distances of several orders of magnitude, down to rounding."""
    positive = distances[distances > 0]
    if len(positive) and positive.min() < 0.1 * positive.max():
        axes.set_yscale("log")
        axes.set_ylim(max(positive.min() / 3, _ROUNDING), 2 * positive.max())
    else:
        axes.set_ylim(bottom=0)


def _note(axes: Axes, text: str, height: float) -> None:
    """Write above a height at the left end, where no falling line is."""
    place = {"xycoords": ("axes fraction", "data"), "xytext": (3, 1), "textcoords": "offset points"}
    axes.annotate(text, (0, height), va="bottom", fontsize=SMALL, color="0.35", **place)


def _on_axis(margins: xr.DataArray, resolution: float) -> xr.DataArray:
    """Return places of margins on an axis of decades, those within the resolution of zero in a strip of its own."""
    decades = -np.log10(resolution)
    return np.sign(margins) * (np.log10(np.abs(margins)) + (1 + _MIDDLE) * decades)


def _label_margins(axes: Axes, signed: bool, data: xr.Dataset) -> None:
    """Put ticks at zero and at a few decades of each sign."""
    resolution = data["resolution"].item()
    decades = round(-np.log10(resolution))
    exponents = -np.arange(0, decades + 1, -(-decades // 4))
    margins = xr.DataArray(np.r_[-(10.0**exponents), 10.0**exponents] if signed else 10.0**exponents)
    names = [f"${'-' if margin < 0 else ''}10^{{{round(np.log10(abs(margin)))}}}$" for margin in margins.values]
    middle = 0 if signed else _MIDDLE * decades / 2
    axes.set_xticks([*_on_axis(margins, resolution).values, middle], [*names, "0"], fontsize=9)
    axes.set_xlabel(r"margin / $\|\mu\|_\infty$" + ("" if signed else ", the top score over the second"))
