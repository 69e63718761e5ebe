# %% [markdown]
# # Are probabilities of recoverability kept?
#
# A fit says of a corpus: a head needs a half-range of at most h with probability p. Bayesian probabilities are kept on
# average over truths that come from the prior. So models are drawn from the prior of the fit, each writes a corpus, and
# the corpus is fitted:
#
# - the truth has any rank among the draws of its posterior with the same probability, and lies in 90 % intervals 90 %
#   of the time;
# - of the corpora to which P(half-range ≤ h) = p was said, a share p has such a half-range, h being the prior median;
# - the accuracy that a draw's head has on other draws is, on average, its accuracy on the truth.

# %%
from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from command import arguments, write
from matplotlib.figure import Figure

from ppl_hmm import (
    HMM,
    OracleLM,
    fit_bayes,
    latent_posterior,
    next_token_class,
    probe_features,
    random_hmm,
    recoverability_posterior,
    sample,
    smallest_half_range,
)
from ppl_hmm.plots.calibration import ranks_on, reliability_on
from ppl_hmm.plots.style import BLUE, REFERENCE, SETTINGS, SMALL

NAME = "recoverability-calibration"
options = arguments("Probabilities of recoverability against what is true, over truths from the prior", NAME)

N_STATES, N_TOKENS, N_TEXTS, LENGTH = 3, 4, 60, 15
N_CORPORA, DRAWS, TUNE, ASKED = (3, 40, 40, 20) if options.smoke else (200, 300, 100, 50)
TRIED = 10 if options.smoke else 20  # draws whose heads are tried on the truth
INTERVAL = 0.9
QUESTION = next_token_class([0, 1])


# %%
def fit_of(truth: HMM, seed: int) -> xr.DataTree:
    """Return the fit of a corpus that a model writes."""
    corpus = sample(truth, N_TEXTS, LENGTH, seed=seed).tokens
    sizes = {"chains": 2, "draws": DRAWS, "tune": TUNE, "vocabulary_size": N_TOKENS}
    return fit_bayes(corpus, N_STATES, method="gibbs", seed=seed, **sizes)


def asked(fit: xr.DataTree, seed: int, **kwargs) -> xr.Dataset:
    """Return what the draws of a fit say of a head on one mask."""
    options = {"questions": ("head",), "n_draws": ASKED, "n_texts": 60, "seed": seed, **kwargs}
    found = recoverability_posterior(fit, QUESTION, **options)
    return next(iter(found.children.values())).to_dataset().sel(question="head")


def needed(model: HMM) -> float:
    """Return the half-range that the best head of a model needs, over its largest margin."""
    task = QUESTION(model)
    return smallest_half_range(model, task).half_range / float(task.scale)


def accuracy_on(truth: HMM, fit: xr.DataTree, seed: int) -> float:
    """Return the mean accuracy of heads of draws on new text and labels of the truth."""
    texts = sample(truth, 300, LENGTH, seed=1000 + seed).tokens
    task = QUESTION(truth)
    labels = task.labels(latent_posterior(truth, task, texts)).bool()
    features = probe_features(OracleLM(truth), texts)
    draws = fit["posterior"].to_dataset().stack(every=("chain", "draw"))
    chosen = np.linspace(0, draws.sizes["every"] - 1, TRIED).astype(int)
    found = []
    for number in chosen:
        model = HMM(*(draws.isel(every=number)[name].values for name in HMM.dimensions))
        head = smallest_half_range(model, QUESTION(model)).weights
        found.append(((features @ head >= 0) == labels).double().mean().item())
    return float(np.mean(found))


# %%
prior = asked(fit_of(random_hmm("dirichlet", N_STATES, N_TOKENS, 0), 0), 0, group="prior", n_draws=10 * ASKED)
budget = float(prior["half_range"].quantile(0.5))

rows = []
for seed in range(options.seed, options.seed + N_CORPORA):
    truth = random_hmm("dirichlet", N_STATES, N_TOKENS, seed)
    fit = fit_of(truth, seed)
    found = asked(fit, seed, budgets=[budget])
    true = {"sigma_min": float(np.linalg.svd(truth.emission)[1][-1]), "half_range": needed(truth)}
    drawn = {"sigma_min": fit["posterior/sigma_min"].values.ravel(), "half_range": found["half_range"].values.ravel()}
    row: dict[str, float] = {"corpus": seed}
    for name, value in true.items():
        low, high = np.quantile(drawn[name], [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
        row |= {name: value, f"{name}_rank": (drawn[name] < value).mean(), f"{name}_covered": low <= value <= high}
    row |= {"probability": found["probability"].item(), "happened": true["half_range"] <= budget}
    row |= {"cross_draw": float(found["cross_draw_accuracy"].mean()), "on_truth": accuracy_on(truth, fit, seed)}
    row["rhat"] = float(fit["mixing/rhat"].max()) if "mixing" in fit else np.nan
    rows.append(row)
table = pd.DataFrame(rows).set_index("corpus")

# %% [markdown]
# ## Table

# %%
print(
    f"{N_CORPORA} corpora: {N_TEXTS} texts of {LENGTH} tokens; models from the prior, K = {N_STATES}, V = {N_TOKENS}"
)
for name in ("sigma_min", "half_range"):
    covered = table[f"{name}_covered"].mean()
    error = np.sqrt(INTERVAL * (1 - INTERVAL) / N_CORPORA)
    print(f"{name}: {INTERVAL:.0%} intervals cover the truth in {covered:.1%} (by chance ± {2 * error:.1%})")
said, happened = table["probability"].mean(), table["happened"].mean()
brier = ((table["probability"] - table["happened"]) ** 2).mean()
print(f"P(half-range ≤ {budget:.3g}): said {said:.3f}, happened {happened:.3f}; Brier score {brier:.3f} (½ has 0.250)")
gap = (table["cross_draw"] - table["on_truth"]).agg(["mean", "std"])
print(
    f"accuracy of a draw's head: on other draws {table['cross_draw'].mean():.3f}, on the truth "
    f"{table['on_truth'].mean():.3f}; difference {gap['mean']:+.3f} on average, standard deviation {gap['std']:.3f}"
)

# %% [markdown]
# ## Figure

# %%
with mpl.rc_context(SETTINGS):
    figure = Figure(figsize=(9, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    ranks_on(panels[0, 0], table["sigma_min_rank"].values, "σ$_{min}$(W)")
    ranks_on(panels[0, 1], table["half_range_rank"].values, "half-range")
    panels[0, 0].legend(fontsize=SMALL, frameon=False, loc="upper center")
    reliability_on(panels[1, 0], table["probability"].values, table["happened"].values.astype(float))
    panels[1, 0].set_title(f"P(half-range ≤ {budget:.2g}), the prior median")
    axes = panels[1, 1]
    axes.axline((0.7, 0.7), slope=1, **REFERENCE)
    axes.scatter(table["cross_draw"], table["on_truth"], s=12, color=BLUE, alpha=0.6, linewidth=0)
    axes.plot(table["cross_draw"].mean(), table["on_truth"].mean(), "k+", markersize=14, label="mean")
    axes.set(xlabel="accuracy on other draws", ylabel="accuracy on the truth", title="the head of a draw")
    axes.legend(fontsize=SMALL, frameon=False)

numbers = table.to_xarray()
numbers.attrs = {"budget": budget, "n_states": N_STATES, "vocabulary_size": N_TOKENS, "n_texts": N_TEXTS}
numbers.attrs |= {"length": LENGTH, "draws": DRAWS}
write(figure, numbers, options.out, NAME)
