# %% [markdown]
# # When is the condition for prompts necessary?
#
# Theorem P of the paper builds a prompt and a head where S, the states that the prompt lets in, hold all that the task
# needs and π₀∘μ/q lies in the column space of W[S]. That is sufficient. Where it fails, a prompt may still classify the
# texts at hand, or none does, which branch and bound over cones of heads can prove. Small random models show which.
#
# 1. **Phases** over the states K and the tokens V: share of models in which a head is certified, masks needed where
#    none is, and of prompts: certified for every text, refuted by some texts, or open (a prompt separates the texts
#    that were looked at, which says nothing of others, or time ran out).
# 2. **Longer texts**: where the condition fails, the share that is refuted by all texts of up to T tokens. If it tends
#    to one, the condition is necessary in that family; what stays separable shows where it is not.
# 3. **Sign patterns**: of a prompt that lets in every state, as all do where A > 0, Theorem P asks for a head b with
#    sign(Wb) = sign(μ) in every state. This is half of the condition, whatever q; a linear programme decides it. Where
#    texts can reveal each state, no head of another pattern is right. Is it what decides?
#
# Three families: A dense with a task on all states; A dense with a task that compares two states; A sparse (each state
# moves to two others) with such a task, where prompts can keep states out.

# %%
from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from command import arguments, write
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import linprog

from ppl_hmm import (
    HMM,
    MASK,
    PosteriorTask,
    head_certificate,
    masks_needed,
    prompt_certificate,
    random_hmm,
    refute_prompts,
)
from ppl_hmm.plots.style import BLUE, ORANGE, SETTINGS, SKY, SMALL, VERMILION

NAME = "when-prompts-help"
options = arguments("Heads, masks and prompts by number of states and tokens: certified, refuted, open", NAME)

STATES, TOKENS = ((3,), (2,)) if options.smoke else (range(3, 8), range(2, 5))
N_MODELS, N_GROWING = (2, 2) if options.smoke else (10, 20)
LENGTH, LENGTHS = (3, (1, 2)) if options.smoke else (4, (1, 2, 3, 4, 5, 6))
GROWING_STATES, GROWING_TOKENS = 4, 2
SECONDS = 0.5 if options.smoke else 2.0
FAMILIES = {"all": "A dense, task on all states", "two": "A dense, two states", "sparse": "A sparse, two states"}
OUTCOMES = {"certified": BLUE, "separates": SKY, "undecided": ORANGE, "refuted": VERMILION}
NO_MASKS = 9  # more than any model here needs


# %%
def random_case(family: str, n_states: int, n_tokens: int, seed: int) -> tuple[HMM, PosteriorTask]:
    """Return a model and a task of a family; a task on two states asks which of them the text has gained more."""
    rng = np.random.default_rng([n_states, n_tokens, seed])
    model = random_hmm("dirichlet", n_states, n_tokens, seed)
    if family == "all":
        return model, PosteriorTask(np.stack([np.zeros(n_states), rng.normal(size=n_states)]))
    if family == "sparse":
        first, second = (np.eye(n_states)[rng.permutation(n_states)] for _ in range(2))
        model = HMM(model.initial, (2 * first + second) / 3, model.emission)
    compared, weights = rng.choice(n_states, 2, replace=False), np.zeros((2, n_states))
    weights[range(2), compared] = 1 / model.initial.numpy()[compared]
    return model, PosteriorTask(weights)


def all_texts(n_tokens: int, longest: int) -> np.ndarray:
    """Return all texts of up to some tokens (B,T), shorter ones filled up with MASK."""
    texts = [text for n in range(1, longest + 1) for text in itertools.product(range(n_tokens), repeat=n)]
    return np.array([[*text, *[MASK] * (longest - len(text))] for text in texts])


def has_pattern(model: HMM, task: PosteriorTask) -> bool:
    """Say whether some head has sign(Wb) = sign(μ) in all states: Wb = 0 where μ = 0, and γ > 0 below μ's signs."""
    emission, signs = model.emission.numpy(), np.sign(task.contrast.numpy())
    needed, n_tokens = signs != 0, emission.shape[1]
    found = linprog(
        c=np.r_[np.zeros(n_tokens), -1.0],
        A_ub=np.c_[-signs[needed, None] * emission[needed], np.ones(needed.sum())],
        b_ub=np.zeros(needed.sum()),
        A_eq=np.c_[emission[~needed], np.zeros((~needed).sum())] if not needed.all() else None,
        b_eq=np.zeros((~needed).sum()) if not needed.all() else None,
        bounds=[(-1, 1)] * n_tokens + [(0, 1)],
    )
    return bool(found.x is not None and found.x[-1] > 1e-7)


def outcome(model: HMM, task: PosteriorTask, texts: np.ndarray, seed: int) -> str:
    """Return what is known of prompts: the theorem's word for every text, else what is proved of these texts."""
    if prompt_certificate(model, task).recoverable:
        return "certified"
    decided = refute_prompts(model, task, texts, seconds=SECONDS, seed=seed)
    if decided.refutation is not None:
        return "refuted" if decided.refutation.holds() else "undecided"
    return "separates" if decided.found is not None and decided.found.separates else "undecided"


# %% [markdown]
# ## Phases


# %%
def phases_of(family: str, n_states: int, n_tokens: int, seed: int) -> dict[str, object]:
    """Return what is known of heads, masks and prompts of a random model."""
    model, task = random_case(family, n_states, n_tokens, seed)
    chain = masks_needed(model, task)
    return {
        "family": family,
        "n_states": n_states,
        "n_tokens": n_tokens,
        "seed": seed,
        "head": head_certificate(model, task).recoverable,
        "masks": NO_MASKS if chain is None else chain.n_masks,
        "prompt": outcome(model, task, all_texts(n_tokens, LENGTH), seed),
        "pattern": has_pattern(model, task),
    }


seeds = range(options.seed, options.seed + N_MODELS)
by_size = pd.DataFrame([phases_of(*case) for case in itertools.product(FAMILIES, STATES, TOKENS, seeds)])

# %% [markdown]
# ## Longer texts


# %%
def growing(family: str, seed: int) -> list[dict[str, object]]:
    """Return what is known of prompts as texts grow: of a certified or refuted model it stays."""
    model, task = random_case(family, GROWING_STATES, GROWING_TOKENS, seed)
    found, rows = "", []
    for length in LENGTHS:
        if found not in ("certified", "refuted"):
            found = outcome(model, task, all_texts(GROWING_TOKENS, length), seed)
        rows.append({"family": family, "length": length, "seed": seed, "prompt": found})
    return rows


starts = range(options.seed, options.seed + N_GROWING)
by_length = pd.DataFrame([row for case in itertools.product(FAMILIES, starts) for row in growing(*case)])

# %% [markdown]
# ## Tables


# %%
def shares(found: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the share of models of each outcome."""
    counted = found.groupby(by)["prompt"].value_counts(normalize=True).unstack()
    return counted.reindex(columns=OUTCOMES).fillna(0.0)


phases = shares(by_size, ["family", "n_states", "n_tokens"])
phases["head"] = by_size.groupby(["family", "n_states", "n_tokens"])["head"].mean()
phases["masks"] = by_size.groupby(["family", "n_states", "n_tokens"])["masks"].median()
walk = shares(by_length, ["family", "length"])
failing = by_size[(by_size["prompt"] != "certified") & (by_size["family"] != "sparse")]  # where all states are let in
patterns = shares(failing, ["family", "pattern"]).assign(models=failing.groupby(["family", "pattern"]).size())
print(f"Share of {N_MODELS} models by K and V; prompts by all texts of up to {LENGTH} tokens; median of masks needed")
print(phases.round(2).to_string())
print(f"\nK = {GROWING_STATES}, V = {GROWING_TOKENS}: share of {N_GROWING} models by all texts of up to T tokens")
print(walk.round(2).to_string())
print("\nWhere Theorem P's condition fails, by whether some head has the sign pattern of the task")
print(patterns.round(2).to_string())

# %% [markdown]
# ## Figure


# %%
def draw_tiles(axes: Axes, values: pd.DataFrame, title: str, largest: float, colours: str):
    """Draw numbers (n_states, n_tokens) as numbered tiles."""
    drawn = axes.pcolormesh(values.columns, values.index, values.values, cmap=colours, vmin=0, vmax=largest)
    for (i, j), value in np.ndenumerate(values.values):
        colour = "white" if value < 0.6 * largest else "black"
        where = values.columns[j], values.index[i]
        axes.annotate(f"{value:.0f}", where, ha="center", va="center", color=colour, fontsize=SMALL)
    axes.set(xticks=values.columns, yticks=values.index)
    axes.set_title(title, fontsize=SMALL)
    axes.spines[:].set_visible(False)
    return drawn


def draw_walk(axes: Axes, of_family: pd.DataFrame, title: str) -> None:
    """Draw the shares of outcomes over the longest text, stacked."""
    below = np.zeros(len(of_family))
    for name, colour in OUTCOMES.items():
        height = 100 * of_family[name].values
        axes.bar(of_family.index, height, bottom=below, color=colour, label=name)
        below = below + height
    axes.set(xticks=of_family.index, ylim=(0, 100), xlabel="longest text T")
    axes.set_title(title, fontsize=SMALL)


PANELS = {
    "head": "a head: certified (%)",
    "masks": "masks needed (median)",
    "certified": "prompt: certified (%)",
    "refuted": "prompt: refuted (%)",
    "open": "prompt: open (%)",
}
with mpl.rc_context(SETTINGS):
    figure = Figure(figsize=(12, 11), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.6, 1))
    grid = upper.subplots(len(FAMILIES), len(PANELS), squeeze=False)
    shown = phases.assign(open=phases["separates"] + phases["undecided"])
    for row, (family, name) in zip(grid, FAMILIES.items(), strict=True):
        for axes, (quantity, title) in zip(row, PANELS.items(), strict=True):
            values = shown.loc[family][quantity].unstack() * (1 if quantity == "masks" else 100)
            draw_tiles(axes, values, title, 6 if quantity == "masks" else 100, "cividis")
        row[0].set_ylabel(f"{name}\nstates K")
    for axes in grid[-1]:
        axes.set_xlabel("tokens V")
    walks = lower.subplots(1, len(FAMILIES), sharey=True)
    for axes, (family, name) in zip(walks, FAMILIES.items(), strict=True):
        draw_walk(axes, walk.loc[family], f"{name}: K = {GROWING_STATES}, V = {GROWING_TOKENS}")
    walks[0].set_ylabel("share of models (%)")
    lower.legend(*walks[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)

numbers = xr.DataTree.from_dict(
    {
        "/by_size": phases.to_xarray(),
        "/by_length": walk.to_xarray(),
        "/patterns": patterns.reset_index().to_xarray(),
        "/models": by_size.to_xarray(),
    }
)
numbers.attrs = {"n_models": N_MODELS, "length": LENGTH, "n_growing": N_GROWING, "seconds": SECONDS}
write(figure, numbers, options.out, NAME)
