"""Draw the answers of an audit, a function for each figure of :mod:`ppl_hmm.audits.figures.answers_data`."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from ppl_hmm import schema
from ppl_hmm.plots.attention import draw_attention
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.style import BLUE, ORANGE, REFERENCE, SMALL, VERMILION, number_or_name, scatter_by_class

_VERDICTS: dict[str, dict[str, Any]] = {
    schema.Verdict.RECOVERABLE: {"color": BLUE, "marker": "o"},
    schema.Verdict.SEPARATES: {"color": BLUE, "marker": "D"},
    schema.Verdict.UNDECIDED: {"color": ORANGE, "marker": "s"},
    schema.Verdict.NOT_RECOVERABLE: {"color": VERMILION, "marker": "^"},
}
_QUESTIONS = {schema.HEAD: ("without a prompt", BLUE, ""), schema.PROMPT: ("after the prompt", ORANGE, "//")}
_WORDS_IN_LINE = 20
_SMALLEST_BOUND = 1e-4
_GOOD = 99.5  # accuracy, in per cent
# Smaller ones are drawn here.
_SMALLEST_SIGMA, _SMALLEST_RESIDUAL = 1e-17, 1e-16


def draw_prompt(data: xr.Dataset) -> Figure:
    """Draw the law that enters the mask without and with the prompt, and the heads' scores against the margins."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    grid = figure.add_gridspec(1, 3, width_ratios=(4, 3, 3))
    _draw_entering(figure.add_subplot(grid[0]), data)
    before = figure.add_subplot(grid[1])
    after = figure.add_subplot(grid[2], sharex=before, sharey=before)
    for axes, (question, (name, _, _)) in zip((before, after), _QUESTIONS.items(), strict=True):
        _draw_scores(axes, data.sel({schema.QUESTION: question}), name, legend=axes is before)
    before.set_xscale("asinh", linear_width=_typical(data["margin"]))
    before.set_yscale("asinh", linear_width=_typical(data["score"]))
    before.set_xticks(*_decades(data["margin"]))
    before.set_yticks(*_decades(data["score"]))
    before.autoscale_view()
    before.set(ylabel="score of the head" if data.attrs["n_classes"] == 2 else "score over the best other class")
    after.tick_params(labelleft=False)
    figure.legend(loc="outside lower center", ncols=6, fontsize=SMALL, frameon=False)
    return figure


def draw_attention_along_text(data: xr.Dataset) -> Figure:
    """Draw score and hard attention at each position as bars, exact inference as dashes, in lines of twenty words."""
    tokens = list(map(str, data["words"].values))
    starts, width = range(0, len(tokens), _WORDS_IN_LINE), min(len(tokens), _WORDS_IN_LINE)
    figure = Figure(figsize=(max(6.5, 0.5 * width), 1.3 + 1.5 * len(starts)), layout="constrained")
    lines = figure.subplots(len(starts), 1, squeeze=False)[:, 0]
    for axes, start in zip(lines, starts, strict=True):
        line = data.isel({schema.POSITION: slice(start, start + width)})
        draw_attention(
            np.stack([line["score"].values, line["attention"].values]),
            tokens[start : start + width],
            names=("score", "hard attention"),
            first_position=start,
            axes=axes,
        )
        exact, places = line["probability"].values, np.arange(line.sizes[schema.POSITION]) - 0.2
        axes.plot(
            places, exact, "k_", markersize=13, clip_on=False, label=r"$P(H_i \in H^* \mid x)$ by exact inference"
        )
        axes.set(xlim=(-0.6, width - 0.4), ylabel="", xlabel="")
        axes.get_legend().remove()
    lines[-1].set_xlabel("word and its position")
    figure.supylabel("score, attention", fontsize=10)
    figure.legend(
        *lines[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False
    )
    states = ", ".join(map(str, data.attrs["states"]))
    figure.suptitle(
        f"Attention to $H^*$ = {{{states}}} along text {data.attrs['sequence']}: {data.attrs['verdict']}", fontsize=11
    )
    return figure


def draw_transfer(data: xr.Dataset) -> Figure:
    """Draw the bounds on a head's error against the language model's loss over the exact one."""
    figure = Figure(figsize=(6.8, 4.4), layout="constrained")
    axes, harmless = figure.subplots(), data["harmless"].item()
    for name, colour, marker, label in (("bound", BLUE, "o", "bound"), ("sharp_bound", VERMILION, "D", "sharp bound")):
        shown = data.where(data[name] >= _SMALLEST_BOUND, drop=True)
        axes.loglog(shown[schema.EXCESS], shown[name], color=colour, marker=marker, markersize=4, label=label)
    axes.axhline(0.01, label="1 % of texts", **REFERENCE)
    found = (
        f"1 % of texts at most up to {harmless:.0e} nats"
        if harmless > 0
        else "more than 1 % of texts at any loss shown"
    )
    axes.set(
        xlabel="loss over the exact language model where the head reads (nats)",
        ylabel="texts decided otherwise (share, at most)",
        title=f"What the {data.attrs['head']} head loses on an inexact language model:\n{found}",
    )
    figure.legend(loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    return figure


def draw_certificates(data: xr.Dataset) -> Figure:
    """Draw accuracies of learned heads against σ_min and residual, a point for each model, coloured by verdict."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for verdict, style in _VERDICTS.items():
        models = data.isel({schema.MODEL: (data["verdict"] == verdict).values})
        if not models.sizes[schema.MODEL]:
            continue
        accuracy = 100 * models["learned_accuracy"].values
        label = f"{verdict}: {(accuracy >= _GOOD).sum()} of {len(accuracy)} models reach {_GOOD} %"
        for axes, name, floor in ((left, "sigma_min", _SMALLEST_SIGMA), (right, "residual", _SMALLEST_RESIDUAL)):
            axes.scatter(
                models[name].values.clip(min=floor),
                accuracy,
                s=20,
                alpha=0.7,
                linewidth=0.3,
                edgecolor="black",
                label=label if axes is left else None,
                **style,
            )
    left.set(xscale="log", xlabel=rf"$\sigma_{{\min}}$ of the rows that matter (0 drawn at {_SMALLEST_SIGMA:g})")
    right.set(xscale="log", xlabel=f"residual of the certificate (0 drawn at {_SMALLEST_RESIDUAL:g})")
    left.set_ylabel("accuracy of the learned head on fresh texts (%)")
    figure.suptitle(f"Does the certificate foretell the learned head? {data.sizes[schema.MODEL]} models", fontsize=12)
    figure.legend(loc="outside lower center", ncols=1, fontsize=SMALL, frameon=False)
    return figure


def _draw_entering(axes: Axes, data: xr.Dataset) -> None:
    states = np.arange(data.sizes[schema.STATE])
    for side, (question, (name, colour, hatch)) in zip((-0.2, 0.2), _QUESTIONS.items(), strict=True):
        law = data["law"].sel({schema.QUESTION: question}).values
        axes.bar(states + side, law, 0.4, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=name)
    needed = states[data["needed"].values == 1]
    low = axes.get_xaxis_transform()  # places in states, heights as shares of the axis
    axes.plot(needed, np.full(len(needed), 0.03), "k^", markersize=5, transform=low, label="the task needs the state")
    axes.set(xlabel="state", ylabel="probability", ylim=(-0.07 * float(data["law"].max()), None))
    axes.set_title("Which states enter the mask?", fontsize=10)
    number_or_name(axes, data["needed"])


def _draw_scores(axes: Axes, data: xr.Dataset, name: str, legend: bool) -> None:
    shown = data.isel({schema.SEQUENCE: data["score"].notnull().values})
    scatter_by_class(axes, shown["margin"].values, shown["score"].values, shown["label"].values, legend)
    axes.axhline(0, **REFERENCE)
    axes.axvline(0, **REFERENCE)
    wrong = data["wrong"].item()
    outcome = "one label, no head" if np.isnan(wrong) else f"{data['head'].item()} head, {100 * wrong:.2g} % wrong"
    axes.set_title(f"{name.capitalize()}: {data['verdict'].item()}\n{outcome}", fontsize=10)
    axes.set_xlabel("margin (asinh scale)")


def _typical(values: xr.DataArray) -> float:
    """Return the median size of values: a scale that is linear below it and logarithmic above shows all."""
    typical = float(abs(values).median())
    return typical if typical > 0 else 1.0  # all zero, or none


def _decades(values: xr.DataArray) -> tuple[list[float], list[str]]:
    """Return places and names of ticks: zero, and of each sign the power of ten below the largest size."""
    largest = float(abs(values).max())
    decade = 10.0 ** np.floor(np.log10(largest)) if largest > 0 else 1.0
    return [-decade, 0.0, decade], [f"{-decade:g}", "0", f"{decade:g}"]
