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
# 2. **Longer texts**: the same as all texts of up to T tokens are looked at. If what is not certified is refuted in the
#    end, the condition is necessary in that family; what stays separable shows where it is not.
# 3. **Sign patterns**: a prompt that lets in all states needs a head b with sign(Wb) = sign(μ), whatever q. A linear
#    programme finds b. Then q = (π₀∘μ)/(Wb) is the law that is asked for, and the question is whether a prompt leads to
#    it. Random signs of K states are those of some Wb with probability 2^{1−K} Σ_{i<V} C(K−1, i) (Cover 1965).
#
# Three families. *Frozen*, A = I: the state never changes, every q is reached, and the sign pattern is all there is to
# Theorem P: with it a prompt is certified, always. Without it long text, which reveals the state, refutes all prompts
# but where a state can be left out. All masks read the same law, and more of them are no help. *Dense*, A > 0: every
# prompt lets in all states, few laws q are reached, and messages of all texts are so alike that prompts separate short
# texts without any theorem: the condition is far from necessary there. *Sparse*: each state moves to two others, a task
# compares two states, and prompts can keep the other states out.

# %%
from __future__ import annotations

import itertools
import math

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
FROZEN_LENGTHS = {2: 6} if options.smoke else {2: 24, 3: 12, 4: 8}  # by V: the order of tokens means nothing there
FROZEN_STEP = 1 if options.smoke else 6  # lengths of frozen models are as many times the others
GROWING_STATES, GROWING_TOKENS = 4, 2
SECONDS = 0.5 if options.smoke else 2.0
FAMILIES = {
    "frozen": "A = I, task on all states",
    "dense": "A > 0, task on all states",
    "sparse": "A sparse, two states",
}
OUTCOMES = {"certified": BLUE, "separates": SKY, "undecided": ORANGE, "refuted": VERMILION}
MARGIN = 1e-9  # refuted: for every prompt and head some text has a score within this of wrong, as a share of b's range
NO_MASKS = 7  # more than any model here needs, where some number is enough


# %%
def random_case(family: str, n_states: int, n_tokens: int, seed: int) -> tuple[HMM, PosteriorTask]:
    """Return a model and a task of a family; a task on two states asks which of them the text has gained more."""
    rng = np.random.default_rng([n_states, n_tokens, seed])
    model = random_hmm("dirichlet", n_states, n_tokens, seed)
    if family != "sparse":
        moves = np.eye(n_states) if family == "frozen" else model.transition
        task = PosteriorTask(np.stack([np.zeros(n_states), rng.normal(size=n_states)]))
        return HMM(model.initial, moves, model.emission), task
    first, second = (np.eye(n_states)[rng.permutation(n_states)] for _ in range(2))
    compared, weights = rng.choice(n_states, 2, replace=False), np.zeros((2, n_states))
    weights[range(2), compared] = 1 / model.initial.numpy()[compared]
    return HMM(model.initial, (2 * first + second) / 3, model.emission), PosteriorTask(weights)


def all_texts(family: str, n_tokens: int, longest: int) -> np.ndarray:
    """Return all texts of up to some tokens (B,T), shorter ones filled up with MASK; one of each order if frozen."""
    texts: list[tuple[int, ...]] = []
    for n in range(1, longest + 1):
        frozen = itertools.combinations_with_replacement(range(n_tokens), n)
        texts += frozen if family == "frozen" else itertools.product(range(n_tokens), repeat=n)
    return np.array([[*text, *[MASK] * (longest - len(text))] for text in texts])


def head_of_pattern(model: HMM, task: PosteriorTask) -> np.ndarray | None:
    """Return Wb (K,) of a head with sign(Wb) = sign(μ) in all states, of largest margin; None where there is none."""
    emission, signs = model.emission.numpy(), np.sign(task.contrast.numpy())
    n_tokens = emission.shape[1]
    found = linprog(
        c=np.r_[np.zeros(n_tokens), -1.0],
        A_ub=np.c_[-signs[:, None] * emission, np.ones(len(signs))],
        b_ub=np.zeros(len(signs)),
        bounds=[(-1, 1)] * n_tokens + [(0, 1)],
    )
    return emission @ found.x[:-1] if found.x[-1] > 1e-7 else None


def prompt_of_pattern(model: HMM, task: PosteriorTask) -> np.ndarray | None:
    """Return the prompt (1,K) after which q = (π₀∘μ)/(Wb) enters the mask, for that head; None if it is no prompt."""
    read = head_of_pattern(model, task) if (task.contrast != 0).all() else None
    if read is None:
        return None
    law = model.initial.numpy() * task.contrast.numpy() / read
    before = np.linalg.solve(model.transition.numpy().T, law)
    if (before < 0).any():
        return None
    row = before / (model.initial @ model.transition).numpy()
    return row[None] / row.max()


def outcome(model: HMM, task: PosteriorTask, texts: np.ndarray, seed: int) -> str:
    """Return what is known of prompts: the theorem's word for every text, else what is proved of these texts."""
    prompt = prompt_of_pattern(model, task)
    if prompt is not None and head_certificate(model, task, prompt).recoverable:
        return "certified"
    if prompt_certificate(model, task).recoverable:
        return "certified"
    decided = refute_prompts(model, task, texts, margin=MARGIN, seconds=SECONDS, seed=seed)
    if decided.refutation is not None:
        return "refuted" if decided.refutation.holds() else "undecided"
    return "separates" if decided.found is not None and decided.found.separates else "undecided"


# %% [markdown]
# ## Phases


# %%
def phases_of(family: str, n_states: int, n_tokens: int, seed: int) -> dict[str, object]:
    """Return what is known of heads, masks and prompts of a random model."""
    model, task = random_case(family, n_states, n_tokens, seed)
    chain, longest = masks_needed(model, task), FROZEN_LENGTHS[n_tokens] if family == "frozen" else LENGTH
    return {
        "family": family,
        "n_states": n_states,
        "n_tokens": n_tokens,
        "seed": seed,
        "head": head_certificate(model, task).recoverable,
        "masks": NO_MASKS if chain is None else chain.n_masks,
        "prompt": outcome(model, task, all_texts(family, n_tokens, longest), seed),
        "pattern": head_of_pattern(model, task) is not None,
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
    for step in LENGTHS:
        length = step * FROZEN_STEP if family == "frozen" else step
        if found not in ("certified", "refuted"):
            found = outcome(model, task, all_texts(family, GROWING_TOKENS, length), seed)
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
of_all = by_size[by_size["family"] != "sparse"]  # where every prompt lets in all states, or can
patterns = shares(of_all, ["family", "pattern"]).assign(models=of_all.groupby(["family", "pattern"]).size())
frozen = by_size[by_size["family"] == "frozen"].groupby(["n_states", "n_tokens"])["pattern"].mean().rename("drawn")
expected = [2.0 ** (1 - k) * sum(math.comb(k - 1, i) for i in range(v)) for k, v in frozen.index]
print(f"Share of {N_MODELS} models by K and V; prompts by all texts of up to {LENGTH} tokens; median of masks needed")
print(phases.round(2).to_string())
print(f"\nK = {GROWING_STATES}, V = {GROWING_TOKENS}: share of {N_GROWING} models by all texts of up to T tokens")
print(walk.round(2).to_string())
print("\nPrompts by whether some head has the sign pattern of the task in all states")
print(patterns.round(2).to_string())
print("\nShare of models whose task has the sign pattern of a head, and Cover's number, where A = I")
print(frozen.to_frame().assign(expected=expected).round(2).to_string())

# %% [markdown]
# ## Figure


# %%
def draw_tiles(axes: Axes, values: pd.DataFrame, title: str, largest: float, colours: str):
    """Draw numbers (n_states, n_tokens) as numbered tiles."""
    drawn = axes.pcolormesh(values.columns, values.index, values.values, cmap=colours, vmin=0, vmax=largest)
    for (i, j), value in np.ndenumerate(values.values):
        colour = "white" if value < 0.6 * largest else "black"
        where = values.columns[j], values.index[i]
        axes.annotate(
            f"{value:.0f}" if value < NO_MASKS or largest == 100 else "none",
            where,
            ha="center",
            va="center",
            color=colour,
            fontsize=SMALL,
        )
    axes.set(xticks=values.columns, yticks=values.index)
    axes.set_title(title, fontsize=SMALL)
    axes.spines[:].set_visible(False)
    return drawn


def draw_walk(axes: Axes, of_family: pd.DataFrame, title: str) -> None:
    """Draw the shares of outcomes over the longest text, stacked."""
    below = np.zeros(len(of_family))
    for name, colour in OUTCOMES.items():
        height = 100 * of_family[name].values
        axes.bar(range(len(of_family)), height, bottom=below, color=colour, label=name)
        below = below + height
    axes.set(ylim=(0, 100), xlabel="longest text T")
    axes.set_xticks(range(len(of_family)), of_family.index)
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
            draw_tiles(axes, values, title, NO_MASKS if quantity == "masks" else 100, "cividis")
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
