# %% [markdown]
# # How wrong can a head be on a language model that is not exact?
#
# A head that is right on the exact conditionals G reads those of a learned model, Ĝ. All that is known of Ĝ is its
# loss ε = E KL(G‖Ĝ). Three bounds on the texts that are decided otherwise (after Saunshi, Malladi & Arora 2021) meet
# what happens on all texts of small models:
#
# - *random* language models: noise on every logit, the same noise on all texts, or a temperature;
# - the *worst* one of each loss. A text costs least to flip where bᵀĜ = 0 and Ĝ_v = G_v/(1+λb_v); flipping those first
#   that cost least is the most that any loss can buy, so this curve is what a bound in ε could reach at best.
#
# ε counts at the mask and under the law of the task's texts. What a language model reports is its loss on contexts of
# its own law; `law_ratio` takes one to the other.

# %%
from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from command import arguments, write
from matplotlib.figure import Figure

from ppl_hmm import (
    HMM,
    MASK,
    OracleLM,
    law_ratio,
    posterior,
    probe_features,
    random_hmm,
    random_task,
    smallest_half_range,
    transfer,
    transfer_bounds,
)
from ppl_hmm.plots.style import BLUE, GREEN, ORANGE, PURPLE, REFERENCE, SETTINGS, SKY, SMALL, VERMILION

NAME = "transfer-bound"
options = arguments("Bounds on a head's error against the error on language models that are wrong", NAME)

N_STATES, N_TOKENS, LENGTH = (3, 4, 3) if options.smoke else (4, 8, 4)
N_MODELS = 3 if options.smoke else 40
SIZES = (0.01, 0.1, 1.0) if options.smoke else np.geomspace(1e-3, 2, 10).round(5)
LOSSES = np.geomspace(1e-9, 1, 19)
TEXTS = np.array([*itertools.product(range(N_TOKENS), repeat=LENGTH)])
BOUNDS = {
    "norm_bound": ("norm bound", "0.35", "--"),
    "bound": ("bound", BLUE, "-."),
    "sharp_bound": ("sharp bound", GREEN, "-"),
}
KINDS = {
    "noisy": ("noise on each logit", SKY, "o"),
    "biased": ("the same noise on all texts", ORANGE, "s"),
    "too sure": ("temperature", PURPLE, "D"),
}
WORST = ("the worst language model of that loss", VERMILION, "^")


# %%
def probabilities(model: HMM, texts: np.ndarray) -> np.ndarray:
    """Return the probability of each text."""
    return posterior(model, texts).log_evidence.exp().numpy()


def random_language_model(kind: str, exact: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Return Ĝ (B,V) at a distance from G that grows with the size."""
    if kind == "too sure":
        wrong = exact ** (1 + size)
    else:
        wrong = exact * np.exp(size * rng.normal(size=exact.shape if kind == "noisy" else exact.shape[1]))
    return wrong / wrong.sum(1, keepdims=True)


def divergence(exact: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return KL(G‖Ĝ) (B,) of positive rows."""
    return (exact * np.log(exact / wrong)).sum(1)


def flipped(exact: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Return for each G the nearest Ĝ that the head decides otherwise, KL(G‖Ĝ) being the distance."""
    side = np.where(exact @ head >= 0, 1, -1)[:, None]
    against = side * head + 1e-9 * np.abs(head).max()  # just across: as Ĝ sums to one, bᵀĜ < 0
    low, high = np.zeros((len(exact), 1)), -1 / against.min(1, keepdims=True)
    for _ in range(100):
        middle = (low + high) / 2
        positive = (against * exact / (1 + middle * against)).sum(1, keepdims=True) > 0
        low, high = np.where(positive, middle, low), np.where(positive, high, middle)
    return exact / (1 + high * against)


# %%
def tried(seed: int) -> tuple[pd.DataFrame, xr.Dataset]:
    """Return the random language models of one model, a row each; and bounds and the worst error by loss."""
    rng = np.random.default_rng(seed)
    model = random_hmm("dirichlet", N_STATES, N_TOKENS, seed)
    task = random_task(model, seed, TEXTS)
    head = smallest_half_range(model, task).weights.numpy()
    exact, law = probe_features(OracleLM(model), TEXTS).numpy(), probabilities(model, TEXTS)
    own_law = probabilities(model, np.concatenate([np.full_like(TEXTS[:, :1], MASK), TEXTS], axis=1))

    rows = []
    for kind, size in itertools.product(KINDS, SIZES):
        wrong = random_language_model(kind, exact, size, rng)
        found = transfer(exact, wrong, head, law)
        rows.append({"model": seed, "kind": kind, "size": size, "own_excess": own_law @ divergence(exact, wrong)})
        rows[-1] |= {name: getattr(found, name) for name in ("excess", "error", *BOUNDS)}

    nearest = flipped(exact, head)
    cost = divergence(exact, nearest)
    order = np.argsort(cost)
    spent = np.cumsum(law[order] * cost[order])
    bounds, worst = transfer_bounds(exact, head, LOSSES, law), []
    for loss in LOSSES:
        chosen = order[: np.searchsorted(spent, loss, side="right")]
        wrong = exact.copy()
        wrong[chosen] = nearest[chosen]
        worst.append(transfer(exact, wrong, head, law).error)
    curves = {name: ("excess", getattr(bounds, name).numpy()) for name in BOUNDS}
    ratio = law_ratio(model)
    return pd.DataFrame(rows), xr.Dataset({**curves, "worst_error": ("excess", worst), "law_ratio": ratio})


seeds = range(options.seed, options.seed + N_MODELS)
tables, curves = zip(*(tried(seed) for seed in seeds), strict=True)
trials = pd.concat(tables, ignore_index=True)
by_loss = xr.concat(curves, pd.Index(seeds, name="model")).assign_coords(excess=LOSSES)

# %% [markdown]
# ## Tables

# %%
broken = {name: int((trials["error"] > trials[name] + 1e-12).sum()) for name in BOUNDS}
broken_by_worst = {name: int((by_loss["worst_error"] > by_loss[name] + 1e-12).sum()) for name in BOUNDS}
means = by_loss[["worst_error", *reversed(BOUNDS)]].mean("model").to_pandas()
means["sharp / worst"] = (by_loss["sharp_bound"] / by_loss["worst_error"].where(by_loss["worst_error"] > 0)).median(
    "model"
)
print(
    f"{N_MODELS} models (dirichlet, K = {N_STATES}, V = {N_TOKENS}), all texts of {LENGTH} tokens, the narrowest heads"
)
print(
    f"bounds broken in {len(trials)} random language models: {broken}; by the worst of each loss: {broken_by_worst}\n"
)
print("mean share of texts decided otherwise, at most; median of the sharp bound over the worst error\n")
print(means[::2].to_string(float_format="{:.3g}".format), end="\n\n")

trials["used"] = trials["error"] / trials["sharp_bound"]
ratios = trials["model"].map(by_loss["law_ratio"].to_pandas())
trials["of_ratio"] = trials["excess"] / (ratios * trials["own_excess"])
by_kind = trials.groupby("kind").agg(
    trials=("error", "size"),
    error_median=("error", "median"),
    error_max=("error", "max"),
    error_over_sharp=("used", "max"),
    loss_over_own_min=("excess", lambda loss: (loss / trials.loc[loss.index, "own_excess"]).min()),
    loss_over_own_max=("excess", lambda loss: (loss / trials.loc[loss.index, "own_excess"]).max()),
    of_law_ratio_max=("of_ratio", "max"),
)
print("random language models: errors, the most of the sharp bound that is used; loss on the task's texts over the own")
print(f"loss, and the most of its limit, law_ratio (median {by_loss['law_ratio'].median().item():.3g}), that is used\n")
print(by_kind.to_string(float_format="{:.3g}".format))

# %% [markdown]
# ## Figure

# %%
with mpl.rc_context(SETTINGS):
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    one = by_loss.isel(model=0)
    for name, (label, colour, style) in BOUNDS.items():
        left.plot(one["excess"], one[name], color=colour, linestyle=style, label=label)
    worst = one["worst_error"].where(one["worst_error"] > 0)
    left.plot(one["excess"], worst, color=WORST[1], marker=WORST[2], markersize=4, label=WORST[0])
    points = trials[trials["error"] > 0]
    for kind, (label, colour, marker) in KINDS.items():
        style = {"color": colour, "marker": marker, "s": 16, "edgecolor": "black", "linewidth": 0.3, "alpha": 0.8}
        first, every = (points[(points["kind"] == kind) & chosen] for chosen in (points["model"] == seeds[0], True))
        left.scatter(first["excess"], first["error"], label=label, **style)
        right.scatter(every["sharp_bound"], every["error"], **style)
    every = by_loss.where(by_loss["worst_error"] > 0)
    right.scatter(
        every["sharp_bound"], every["worst_error"], color=WORST[1], marker=WORST[2], s=8, alpha=0.6, linewidth=0
    )
    right.axline((1, 1), slope=1, color="black", linewidth=0.8)
    right.annotate("the bound", (3e-4, 3e-4), xytext=(-4, 6), textcoords="offset points", ha="right", fontsize=SMALL)
    left.set(xscale="log", yscale="log", ylim=(1e-5, 1.5), xlim=(LOSSES[0], LOSSES[-1]))
    left.set(
        xlabel=r"loss over the exact model, $\varepsilon = E\,KL(G\Vert\hat G)$ (nats)",
        ylabel="texts decided otherwise (share)",
    )
    left.set_title(f"One model (seed {seeds[0]})")
    right.set(xscale="log", xlim=(1e-5, 1.5), xlabel="sharp bound (share)")
    right.set_title(f"{N_MODELS} models: the measured error against the sharp bound")
    for axes in (left, right):
        axes.axhline(0.01, **REFERENCE)
    left.annotate("1 %", (1, 0.01), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=SMALL)
    figure.legend(loc="outside lower center", ncols=4, fontsize=SMALL, frameon=False)

numbers = xr.DataTree.from_dict({"/by_loss": by_loss, "/random": trials.rename_axis("trial").to_xarray()})
numbers.attrs = {"n_states": N_STATES, "vocabulary_size": N_TOKENS, "length": LENGTH}
write(figure, numbers, options.out, NAME)
