# %% [markdown]
# # What do known processes let a perfect predictor believe?
#
# A next-token model that predicts perfectly must hold, after every text, what the text says of the hidden state: a
# belief. Beliefs are points of a simplex, and each token moves them. How many there are and how fast they settle
# differs greatly between processes of equally few states.
#
# 1. **Mixed states**: the distinct beliefs after texts of up to T tokens, as points. Few for RRXOR (36), one more with
#    each token for the simple nonunifilar source, a fractal of 3^L for Mess3.
# 2. **Losses**: H(X_{t+1} | x_1..x_t), the loss of a perfect prediction from t tokens, over the entropy rate h. The
#    bounds of h are rigorous: what is merged and what is rounded is counted.
# 3. **A product** of processes: beliefs are outer products and entropy rates add up. Mixed states are fewer than all
#    pairs, as both factors have read the same number of tokens.

# %%
from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from command import arguments, write
from matplotlib.figure import Figure

from ppl_hmm import HMM, entropies, mixed_states, process
from ppl_hmm.plots.mixed_states import draw_mixed_states
from ppl_hmm.plots.style import BLUE, GREEN, ORANGE, PURPLE, SETTINGS, SKY, SMALL, VERMILION

NAME = "belief-geometry"
options = arguments("Beliefs, entropy rates and optimal losses of known processes", NAME)

DEPTH = 6 if options.smoke else 10
NAMES = ("mess3", "z1r", "rrxor", "even", "sns", "cyclic")
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY)
MARKERS = "os^Dvx"
FACTORS = ("z1r", "golden_mean")

# %% [markdown]
# ## Numbers

# %%
processes = {name: process(name) for name in NAMES} | {" x ".join(FACTORS): process("product", factors=FACTORS)}
machines = {name: mixed_states(model, DEPTH) for name, model in processes.items()}
measured = {name: entropies(model, DEPTH) for name, model in processes.items()}


def row(name: str) -> dict[str, object]:
    """Return what is told of a process in the table."""
    model, machine, found = processes[name], machines[name], measured[name]
    rate, excess = found["entropy_rate"].values, found["excess_entropy"].values
    return {
        "process": name,
        "states": model.n_states,
        "hmm_states": model.n_states if isinstance(model, HMM) else model.hmm.n_states,
        "beliefs": machine.sizes["mixed_state"],
        "all": bool(machine.attrs["complete"]),
        "rate_lower": rate[0],
        "rate_upper": rate[1],
        "excess_lower": excess[0],
        "excess_upper": excess[1],
        "mean_loss": found["mean_loss"].values.mean(),
    }


table = pd.DataFrame([row(name) for name in processes]).set_index("process")
print(f"Texts of up to {DEPTH} tokens; rates, excess entropies and losses in nats")
print(table.round(6).to_string())
parts = sum(entropies(process(name))["entropy_rate"].values for name in FACTORS)
print(f"\nRates of {' and '.join(FACTORS)} add up to {parts[0]:.6f} .. {parts[1]:.6f}")

# %% [markdown]
# ## Figure

# %%
with mpl.rc_context(SETTINGS):
    figure = Figure(figsize=(11, 9), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(2, 1))
    for axes, name in zip(upper.subplots(2, 3).ravel(), NAMES, strict=True):
        draw_mixed_states(machines[name], axes=axes)
        complete = "" if machines[name].attrs["complete"] else ", and more"
        axes.set_title(f"{name}: {machines[name].sizes['mixed_state']} beliefs{complete}", fontsize=SMALL + 1, pad=16)
    axes = lower.subplots()
    for name, colour, marker in zip(NAMES, COLOURS, MARKERS, strict=True):
        over = measured[name]["myopic_entropy"].mean("bound") - measured[name]["entropy_rate"].mean().item()
        bounds = measured[name]["entropy_rate"].values
        shown = over.where(over > np.ptp(bounds))  # less than that is not known
        axes.plot(range(DEPTH + 1), shown, color=colour, marker=marker, markersize=4, label=name)
    axes.set(yscale="log", xlabel="tokens read", ylabel="optimal loss over the entropy rate (nats)")
    axes.legend(fontsize=SMALL, frameon=False, ncols=2)

numbers = xr.DataTree.from_dict(
    {"/table": table.to_xarray()}
    | {f"/{name.replace(' ', '-')}/mixed_states": machine for name, machine in machines.items()}
    | {f"/{name.replace(' ', '-')}/entropies": found for name, found in measured.items()}
)
numbers.attrs = {"depth": DEPTH}
write(figure, numbers, options.out, NAME)
