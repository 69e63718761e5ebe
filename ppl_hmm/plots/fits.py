"""Draw what was learned from text: what states emit, how they follow each other, and how good it is."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ppl_hmm import schema
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.style import BLUE, GREEN, ORANGE, PURPLE, REFERENCE, SETTINGS, SKY, SMALL, VERMILION

_MOST_SHOWN = 60  # tokens in all panels together, but at least _LEAST a state
_LEAST, _LONGEST_NAME, _COLUMNS = 6, 14, 5
_TWO_SIDED_95 = 1.96
# White space, and what matplotlib would take for mathematics.
_SHOWN = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥", "$": r"\$"})
_BASELINES = {schema.UNIGRAM: (ORANGE, "-."), schema.BIGRAM: (GREEN, "--"), schema.TRIGRAM: (PURPLE, ":")}


def state_names(model: xr.Dataset, n_tokens: int = 0) -> list[str]:
    """Return the names of a model's states, or their numbers; with the tokens that each emits most, if asked."""
    n_states = model.sizes[schema.STATE]
    named = schema.STATE in model.coords
    names = [str(name) for name in model[schema.STATE].values] if named else [f"state {h}" for h in range(n_states)]
    if not n_tokens:
        return names
    shown = emissions(model, n_tokens)["shown"].values
    return [f"{name}: {' '.join(row)}" for name, row in zip(names, shown, strict=True)]


def emissions(model: xr.Dataset, n_tokens: int) -> xr.Dataset:
    """Return the tokens that each state emits most: ``shown`` and ``probability`` (state, rank)."""
    emission = model["emission"].transpose(schema.STATE, schema.TOKEN)
    order = np.argsort(-emission.values, axis=1, kind="stable")[:, :n_tokens]
    labels = emission[schema.TOKEN].values if schema.TOKEN in model.coords else np.arange(emission.shape[1])
    shown = np.array([_shown(str(label)) for label in labels], dtype=object)
    dims = (schema.STATE, "rank")
    return xr.Dataset(
        {"shown": (dims, shown[order]), "probability": (dims, np.take_along_axis(emission.values, order, 1))}
    )


def draw_emissions(model: xr.Dataset) -> Figure:
    """Draw a panel for each state of a model's dataset: the tokens that it emits most, by their names."""
    n_states, n_tokens = model.sizes[schema.STATE], model.sizes[schema.TOKEN]
    n_shown = min(n_tokens, max(_LEAST, _MOST_SHOWN // (2 * n_states)))
    n_columns = min(n_states, _COLUMNS)
    n_rows = -(-n_states // n_columns)
    found = emissions(model, n_shown)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(max(4.5, 2.2 * n_columns), n_rows * (0.55 + 0.17 * n_shown)), layout="constrained")
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for axes, name, state in zip(panels, state_names(model), range(n_states), strict=False):
            _draw_state(axes, name, found.isel({schema.STATE: state}))
        for axes in panels[n_states:]:
            axes.set_axis_off()
        figure.supxlabel("P(token | state)", fontsize=SMALL)
    return figure


def _draw_state(axes: Axes, name: str, found: xr.Dataset) -> None:
    places = np.arange(found.sizes["rank"])
    axes.barh(places, found["probability"].values, color=BLUE, height=0.75)
    axes.set_yticks(places, found["shown"].values, fontsize=SMALL)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(name, fontsize=9)


def draw_transition(model: xr.Dataset) -> Figure:
    """Draw A as a heat map: from the state of a row to that of a column, named by the tokens that they emit most."""
    n_states = model.sizes[schema.STATE]
    size = 2.6 + 0.28 * max(n_states, 6)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(size + 1.6, size), layout="constrained")
        axes = figure.subplots()
        drawn = axes.imshow(model["transition"].values, cmap="Blues", vmin=0)
        names = state_names(model, 3)
        axes.set_yticks(np.arange(n_states), names, fontsize=SMALL if n_states <= 20 else 7)
        axes.set_xticks(np.arange(n_states), state_names(model), rotation=90, fontsize=SMALL if n_states <= 20 else 7)
        axes.set(xlabel="next state", ylabel="state: what it emits most", title="Where states lead")
        figure.colorbar(drawn, ax=axes, shrink=0.7).set_label("P(next state | state)", fontsize=SMALL)
    return figure


def draw_perplexity(perplexity: xr.Dataset, unit: str) -> Figure:
    """Draw held-out perplexity by number of states, with 95 % intervals, beside the baselines."""
    sizes = perplexity.sortby(schema.N_STATES)
    states, values = sizes[schema.N_STATES].values, sizes[schema.PERPLEXITY].values
    spread = np.exp(_TWO_SIDED_95 * np.nan_to_num(sizes[f"log_{schema.PERPLEXITY}_se"].values))
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(6.4, 4), layout="constrained")
        axes = figure.subplots()
        for name in map(str, perplexity[schema.BASELINE].values):
            colour, line = _BASELINES[name]
            height = perplexity[f"baseline_{schema.PERPLEXITY}"].sel({schema.BASELINE: name}).item()
            axes.axhline(height, color=colour, linestyle=line, linewidth=1.3, label=f"{name}, interpolated")
        errors = [values - values / spread, values * spread - values]
        axes.errorbar(states, values, errors, color=BLUE, marker="o", capsize=2, label="hidden Markov model")
        training = sizes[f"training_{schema.PERPLEXITY}"].values
        axes.plot(states, training, color=SKY, marker="v", markersize=4, linewidth=1, label="on its training text")
        axes.set_xticks(states)
        axes.set(xlabel="hidden states K", ylabel=f"held-out perplexity per {unit}", title="How well text is predicted")
        figure.legend(loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    return figure


def draw_checks(checks: xr.DataTree) -> Figure:
    """Draw statistics of text beside those of samples of the model: the tree of :func:`~ppl_hmm.check_fit`."""
    observed = checks[schema.OBSERVED_DATA].to_dataset()
    replicated = checks[schema.POSTERIOR_PREDICTIVE].to_dataset().stack(replicate=(schema.CHAIN, schema.DRAW))
    p_values = checks[schema.CHECKS].to_dataset()["p_value"]
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(9, 7), layout="constrained")
        panels = dict(zip(map(str, p_values[schema.CHECK].values), figure.subplots(2, 2).ravel(), strict=True))
        for name in (schema.TOKEN_FREQUENCY, schema.BIGRAM_FREQUENCY):
            _draw_frequencies(panels[name], observed[name], replicated[name])
        _draw_along(panels[schema.RUN_LENGTH_FREQUENCY], observed, replicated, schema.RUN_LENGTH_FREQUENCY)
        _draw_along(panels[schema.MUTUAL_INFORMATION], observed, replicated, schema.MUTUAL_INFORMATION)
        runs = panels[schema.RUN_LENGTH_FREQUENCY]
        runs.set(yscale="log", xlabel="length of a run", ylabel="share of runs")
        runs.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[schema.MUTUAL_INFORMATION].set(xlabel="tokens apart", ylabel="nats", ylim=(0, None))
        for name, axes in panels.items():
            p_value = p_values.sel({schema.CHECK: name}).item()
            axes.set_title(f"{name.replace('_', ' ')}: p = {p_value:.2g}", fontsize=10)
        handles, labels = panels[schema.MUTUAL_INFORMATION].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
        figure.suptitle("Does the model write such text?", fontsize=11)
    return figure


def _draw_frequencies(axes: Axes, observed: xr.DataArray, replicated: xr.DataArray) -> None:
    """Draw the model's mean frequencies against those of the text, on logarithmic scales; name the most different."""
    model = replicated.mean("replicate").transpose(*observed.dims).values.ravel()
    text = observed.values.ravel()
    seen = (text > 0) & (model > 0)
    axes.scatter(text[seen], model[seen], s=10, color=VERMILION, alpha=0.6, linewidth=0, rasterized=True)
    ends = [min(text[seen].min(), model[seen].min()), max(text[seen].max(), model[seen].max())] if seen.any() else []
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="in the text", ylabel="in samples of the model")
    names = [_shown(str(label)) for label in observed[observed.dims[0]].values] if observed.ndim == 1 else []
    for place in np.argsort(-np.abs(text - model))[:_LEAST] if names else ():
        if seen[place]:
            where = float(text[place]), float(model[place])
            axes.annotate(names[place], where, xytext=(3, -8), textcoords="offset points", fontsize=SMALL)


def _draw_along(axes: Axes, observed: xr.Dataset, replicated: xr.Dataset, name: str) -> None:
    """Draw a statistic of the text as points, and the range of the replicates."""
    places = observed[observed[name].dims[0]].values
    there = (observed[name].values > 0) | (replicated[name].values > 0).any(-1)
    shown = slice(0, np.flatnonzero(there).max(initial=0) + 1)
    low, middle, high = replicated[name].quantile([0.025, 0.5, 0.975], "replicate").values[:, shown]
    places, text = places[shown], observed[name].values[shown]
    axes.fill_between(places, low, high, color=SKY, alpha=0.4, linewidth=0, label="95 % of samples")
    axes.plot(places, middle, color=BLUE, linewidth=1.2, label="samples of the model")
    axes.plot(places, text, "o", color=VERMILION, markersize=4, label="text")
    axes.axhline(0, **REFERENCE)


def _shown(token: str) -> str:
    """Return a token as figures and tables write it: with marks for white space, and not too long."""
    cut = token if len(token) <= _LONGEST_NAME else f"{token[: _LONGEST_NAME - 1]}…"
    return "".join(each if each.isprintable() else "�" for each in cut.translate(_SHOWN))
