# %% [markdown]
# # What do the first 80 of 128 tokens still tell?
#
# The code released with the paper labels texts of 128 tokens, and shows the language model at most 79 of them, or 59
# beside a prompt of 20. The label is a function of P(H₀|x): does it change when the end of the text is cut off?
#
# A model that forgets makes the cut harmless, for late tokens say nothing of H₀. Two numbers of the transition matrix
# measure forgetting: the Dobrushin coefficient, whose n-th power bounds what two initial states still differ by after
# n steps, and |λ₂|, the rate in the long run. But a cut is harmless as well where the first tokens have told all: then
# the model may remember for ever. Three regimes take these apart; in *slow* a state is left at 2 % of the steps, and
# its tokens are nearly those of the others.

# %%
from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from command import arguments, write
from matplotlib.figure import Figure

from ppl_hmm import HMM, random_hmm, random_task, sample
from ppl_hmm.audits.arrays import dobrushin_coefficient, second_eigenvalue
from ppl_hmm.inference.queries import initial_posterior
from ppl_hmm.plots.style import BLUE, GREEN, REFERENCE, SETTINGS, SMALL, VERMILION

NAME = "forgetting-and-truncation"
options = arguments("What posteriors and labels lose when the end of the text is cut off", NAME)

N_TOKENS, WHOLE, READ = 10, 128, 80
LENGTHS = (1, 10, READ) if options.smoke else (1, 2, 5, 10, 20, 40, 59, READ, 100, 120)
N_STATES = (4, 10) if options.smoke else (4, 10, 30)
N_MODELS, N_TEXTS = (2, 50) if options.smoke else (20, 500)
REGIMES = {"wei2021": (VERMILION, "o"), "dirichlet": (BLUE, "s"), "slow": (GREEN, "^")}
DASHES = dict(zip(N_STATES, ("-", "--", ":"), strict=False))
NOTHING, EVER = 1e-16, 1e6  # less, and more, is drawn here


# %%
def model_of(regime: str, n_states: int, seed: int) -> HMM:
    """Return a random model."""
    if regime != "slow":
        return random_hmm(regime, n_states, N_TOKENS, seed)
    model = random_hmm("dirichlet", n_states, N_TOKENS, seed)
    alike = random_hmm("dirichlet", n_states, N_TOKENS, seed, concentration=10.0)
    return HMM(model.initial, 0.98 * np.eye(n_states) + 0.02 * model.transition.numpy(), alike.emission)


def cut(regime: str, n_states: int, seed: int) -> list[dict]:
    """Return what cutting the texts of one model costs, a row for each number of tokens that are left."""
    model = model_of(regime, n_states, seed)
    tokens = sample(model, N_TEXTS, WHOLE, seed).tokens
    task = random_task(model, seed, tokens)
    transition, whole = model.transition.numpy(), initial_posterior(model, tokens)
    labels, _, decidable = task.answers(whole)
    of_model = {
        "regime": regime,
        "n_states": n_states,
        "seed": seed,
        "dobrushin": dobrushin_coefficient(transition),
        "second_eigenvalue": second_eigenvalue(transition),
    }
    rows = []
    for length in LENGTHS:
        law = initial_posterior(model, tokens[:, :length])
        distance = (law - whole).abs().sum(1) / 2
        answers = task.answers(law)
        asked = decidable & answers.decidable
        changed = (answers.labels != labels)[asked]
        rows.append(
            of_model
            | {"length": length, "distance": distance.mean().item(), "largest": distance.max().item()}
            | {"changed": changed.double().mean().item(), "undecidable": 1 - asked.double().mean().item()}
        )
    return rows


seeds = range(options.seed, options.seed + N_MODELS)
found = pd.DataFrame(
    [row for regime in REGIMES for n_states in N_STATES for seed in seeds for row in cut(regime, n_states, seed)]
)

# %% [markdown]
# ## Tables

# %%
by_length = found.groupby(["regime", "n_states", "length"], sort=False)[["distance", "changed", "undecidable"]].mean()
at_cut = found[found["length"] == READ].groupby(["regime", "n_states"], sort=False)
table = at_cut[["dobrushin", "second_eigenvalue", "distance"]].median()
table["distance, mean"] = at_cut["distance"].mean()
table["distance, most"] = at_cut["largest"].max()
table["labels changed"] = at_cut["changed"].mean()
table["in models"] = at_cut["changed"].apply(lambda changed: (changed > 0).sum())
table["undecidable"] = at_cut["undecidable"].mean()
print(
    f"P(H₀|x) after {READ} of {WHOLE} tokens, {N_MODELS} models a row, {N_TEXTS} texts each: medians of the Dobrushin"
)
print("coefficient, |λ₂| and the mean total variation to the whole text's; its mean and largest value; the share of")
print("decidable labels that change, the number of models where some do, and the share that is not decidable\n")
print(table.to_string(float_format="{:.3g}".format), end="\n\n")
print("share of labels that change, by tokens read\n")
print(by_length["changed"].unstack("length").to_string(float_format="{:.3g}".format))

# %% [markdown]
# ## Figure


# %%
def relaxation(rate: pd.Series) -> pd.Series:
    """Return how many tokens it takes until 1/e of what was known is left."""
    return 1 / (-np.log(rate)).clip(lower=1 / EVER)


with mpl.rc_context(SETTINGS):
    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    distance, changed, forgetting = figure.subplots(1, 3)
    for (regime, n_states), rows in by_length.reset_index().groupby(["regime", "n_states"], sort=False):
        colour, marker = REGIMES[regime]
        style = {"color": colour, "marker": marker, "linestyle": DASHES[n_states], "markersize": 4}
        distance.plot(rows["length"], rows["distance"].clip(lower=NOTHING), label=f"{regime}, K = {n_states}", **style)
        changed.plot(rows["length"], 100 * rows["changed"], **style)
    for axes in (distance, changed):
        axes.axvline(READ, **REFERENCE)
        axes.set(xlabel=f"tokens read, of {WHOLE}", xscale="log", xlim=(0.9, WHOLE))
        axes.set_xticks(ticks := (1, 2, 5, 10, 20, 40, READ), [str(tick) for tick in ticks])
        axes.minorticks_off()
    distance.set(
        yscale="log",
        ylabel="total variation (floor at 1e-16)",
        title="How far $P(H_0|x)$ is from the whole text's",
    )
    changed.set(ylabel="decidable texts (%)", title="Labels that the end changes", ylim=(0, None))
    points = found[found["length"] == READ]
    for regime, (colour, marker) in REGIMES.items():
        rows = points[points["regime"] == regime]
        style = {"color": colour, "marker": marker, "s": 22, "edgecolor": "black", "linewidth": 0.3, "alpha": 0.8}
        forgetting.scatter(relaxation(rows["second_eigenvalue"]), rows["distance"].clip(lower=NOTHING), **style)
    times = np.geomspace(0.1, EVER, 500)
    forgetting.plot(times, np.exp(-READ / times).clip(min=NOTHING), label=rf"$|\lambda_2|^{{{READ}}}$", **REFERENCE)
    forgetting.set(xscale="log", yscale="log", ylabel="total variation of each model (floor at 1e-16)")
    forgetting.set_xlabel(r"$-1/\log|\lambda_2|$: tokens until $1/e$ is left (at most $10^6$)")
    forgetting.set_title(f"Does forgetting foretell the cut at {READ}?")
    figure.suptitle(f"Cutting texts of {WHOLE} tokens: means of {N_MODELS} models, {N_TEXTS} texts each", fontsize=11)
    figure.legend(loc="outside lower center", ncols=5, fontsize=SMALL, frameon=False)

numbers = found.set_index(["regime", "n_states", "seed", "length"]).to_xarray()
per_model = numbers[["dobrushin", "second_eigenvalue"]].isel(length=0, drop=True)
write(figure, numbers.assign(per_model).assign_attrs(n_texts=N_TEXTS, whole=WHOLE), options.out, NAME)
