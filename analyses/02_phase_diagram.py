# %% [markdown]
# # Where can a task be recovered?
#
# The paper asks that the rows of W be independent for head tuning, and that only those of the states that a prompt lets
# in be so for prompt tuning. Both are yes or no; models are more or less. Two walks through the models:
#
# 1. over the number of states K and the rank r of W: which share of models is certified, refuted by a witness, or
#    left undecided, for a head, and after the best prompt that is found;
# 2. towards rank deficiency, W = (1−ε)·(rank 2) + ε·(Dirichlet): what the smallest singular value does to the
#    verdict, and to the head that is learned from text without knowing of either. W has full rank at every ε > 0.
#
# Float64 sets the limits. Where the smallest singular value is 1e-10 or less, conditionals that should differ are equal
# in nearly all their digits, and a witness may hold to rounding although a head exists on paper: one whose scores those
# digits do not tell from zero.
#
# The task compares two states: did the text gain state i more than state j? States move to two others at most, so that
# a prompt can keep most of them out.

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

from ppl_hmm import (
    HMM,
    Certificate,
    LinearHead,
    OracleLM,
    PosteriorTask,
    find_witness,
    head_certificate,
    posterior,
    probe_features,
    prompt_certificate,
    random_hmm,
    sample,
    spectra,
)
from ppl_hmm.audits.learning import LEARNING_GRID
from ppl_hmm.plots.style import BLUE, ORANGE, SETTINGS, SMALL, VERMILION

NAME = "phase-diagram"
options = arguments("Recoverability by number of states, rank and conditioning of the emission matrix", NAME)

N_TOKENS, LENGTH = (4, 3) if options.smoke else (8, 4)
SIZES = range(2, 4) if options.smoke else range(2, 9)
N_MODELS, N_MIXED = (3, 2) if options.smoke else (40, 20)
MIXED_STATES, MIXED_RANK = (3, 2) if options.smoke else (5, 2)
EXPONENTS = (0, -6, -12) if options.smoke else range(0, -15, -1)
N_LEARNED = 500 if options.smoke else 4000
VERDICTS = {"recoverable": BLUE, "undecided": ORANGE, "not recoverable": VERMILION}
QUESTIONS = {"head": "a head", "prompt": "a prompt and a head"}
TEXTS = np.array([*itertools.product(range(N_TOKENS), repeat=LENGTH)])


# %%
def emission_of_rank(rank: int, n_states: int, seed: int) -> HMM:
    """Return a random model whose W has this rank."""
    if rank == n_states:
        return random_hmm("dirichlet", n_states, N_TOKENS, seed)
    return random_hmm("degenerate", n_states, N_TOKENS, seed, rank=rank)


def random_case(n_states: int, emission, seed: int) -> tuple[HMM, PosteriorTask]:
    """Return a model in which a state moves to two others at most, and the task that compares two of its states."""
    rng = np.random.default_rng([n_states, seed])
    first, second = (np.eye(n_states)[rng.permutation(n_states)] for _ in range(2))
    initial = rng.dirichlet(np.ones(n_states))
    compared = rng.choice(n_states, 2, replace=False)
    weights = np.zeros((2, n_states))
    weights[range(2), compared] = 1 / initial[compared]
    return HMM(initial, (2 * first + second) / 3, emission), PosteriorTask(weights)


# %% [markdown]
# ## By states and rank


# %%
def certificates(model: HMM, task: PosteriorTask) -> dict[str, Certificate]:
    """Return the answers to both questions; a head is refuted only if the witness is among the texts."""
    head, prompt = head_certificate(model, task), prompt_certificate(model, task)
    if not head.recoverable:
        answers = task.answers(posterior(model, TEXTS))
        kept = answers.decidable
        features, labels = probe_features(OracleLM(model), TEXTS)[kept], answers.labels[kept]
        witness = find_witness(features, labels) if len(labels) else None
        head = head if witness is None else head.refuted_by(witness)
    return {"head": head, "prompt": prompt}


def verdicts(found: dict[str, Certificate]) -> dict[str, str]:
    """Return the verdict on each question."""
    return {question: certificate.verdict for question, certificate in found.items()}


def shares(found: pd.DataFrame, by: list[str]) -> xr.Dataset:
    """Return the share of models of each verdict."""
    counts = {
        question: found.groupby(by)[question].value_counts(normalize=True).unstack().reindex(columns=VERDICTS)
        for question in QUESTIONS
    }
    long = pd.concat(counts, names=["question"]).fillna(0.0).rename_axis(columns="verdict").stack()
    return long.to_xarray()


seeds = range(options.seed, options.seed + N_MODELS)
by_rank = pd.DataFrame(
    [
        {"n_states": n_states, "rank": rank}
        | verdicts(certificates(*random_case(n_states, emission_of_rank(rank, n_states, seed).emission, seed)))
        for n_states in SIZES
        for rank in range(2, n_states + 1)
        for seed in seeds
    ]
)

# %% [markdown]
# ## By the smallest singular value


# %%
def learned_accuracy(certificate: Certificate, seed: int) -> float:
    """Return the accuracy on fresh texts of the head learned from texts, after the certificate's prompt."""
    model, parts = certificate.model, []
    for stream in (3 * seed, 3 * seed + 1, 3 * seed + 2):  # to learn from, to choose a penalty by, to be tested on
        tokens = sample(model, N_LEARNED, LENGTH, stream).tokens
        answers = certificate.task.answers(posterior(model, tokens))
        features = probe_features(OracleLM(model), tokens, prompt=certificate.prompt)
        parts.append((features[answers.decidable].numpy(), answers.labels[answers.decidable].numpy()))
    training, validation, test = parts
    return LinearHead.select(*training, *validation, grid=LEARNING_GRID).score(*test)


def mixed(exponent: int, seed: int) -> dict[str, float | str]:
    """Return what is said, and what is learned, of a model that lies ε = 10^exponent away from rank deficiency."""
    share = 10.0**exponent
    deficient, full = (emission_of_rank(rank, MIXED_STATES, seed) for rank in (MIXED_RANK, MIXED_STATES))
    emission = (1 - share) * deficient.emission + share * full.emission
    model, task = random_case(MIXED_STATES, emission, seed)
    found = certificates(model, task)
    accuracies = {f"{name} accuracy": learned_accuracy(certificate, seed) for name, certificate in found.items()}
    return (
        {"exponent": exponent, "seed": seed, "sigma_min": spectra(model)["emission"].sigma_min}
        | verdicts(found)
        | accuracies
    )


by_distance = pd.DataFrame(
    [mixed(exponent, seed) for exponent in EXPONENTS for seed in range(options.seed, options.seed + N_MIXED)]
)

# %% [markdown]
# ## Tables

# %%
phases = shares(by_rank, ["n_states", "rank"])
walk = shares(by_distance, ["exponent"])
medians = by_distance.groupby("exponent")[["sigma_min", *(f"{question} accuracy" for question in QUESTIONS)]].median()
print(f"Share of {N_MODELS} models by K and rank of W (V = {N_TOKENS}), all texts of {LENGTH} tokens")
for question, verdict in (("head", "recoverable"), ("head", "not recoverable"), ("prompt", "recoverable")):
    print(f"\n{QUESTIONS[question]}: {verdict}")
    print(phases.sel(question=question, verdict=verdict).to_pandas().round(3).to_string(na_rep=""))
print(f"\nShare of {N_MIXED} models by distance from rank {MIXED_RANK}, K = {MIXED_STATES}; medians of the rest\n")
by_question = {
    f"{question}: {verdict}": walk.sel(question=question, verdict=verdict).to_pandas()
    for question in QUESTIONS
    for verdict in VERDICTS
}
print(pd.concat([medians, pd.DataFrame(by_question)], axis=1)[::-1].to_string(float_format="{:.3g}".format))

# %% [markdown]
# ## Figure


# %%
def draw_phases(axes: Axes, share: xr.DataArray, title: str):
    """Draw shares (n_states, rank) as a triangle of numbered tiles."""
    values = 100 * share.values
    tiles = axes.pcolormesh(share["rank"], share["n_states"], values, cmap="cividis", vmin=0, vmax=100)
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            where = share["rank"].values[j], share["n_states"].values[i]
            colour = "white" if value < 60 else "black"
            axes.annotate(f"{value:.0f}", where, ha="center", va="center", color=colour, fontsize=SMALL)
    axes.set(xlabel="rank of W", xticks=share["rank"], yticks=share["n_states"], aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.spines[:].set_visible(False)
    return tiles


def draw_walk(axes: Axes, share: xr.DataArray, accuracy: pd.Series, title: str) -> None:
    """Draw shares (exponent, verdict) stacked, over the median σ_min, and the accuracy of learned heads."""
    places, stacked = medians["sigma_min"].values, [100 * share.sel(verdict=verdict).values for verdict in VERDICTS]
    axes.stackplot(
        places, stacked, colors=VERDICTS.values(), labels=[f"{name} (models)" for name in VERDICTS], alpha=0.55
    )
    axes.plot(
        places, 100 * accuracy.values, "ko-", markersize=4, linewidth=1.2, label="median accuracy of the learned head"
    )
    axes.set(xscale="log", xlim=(places.min(), places.max()), ylim=(0, 103))
    axes.set(xlabel=r"$\sigma_{\min}(W)$, median of the models")
    axes.set_title(title, fontsize=10)


with mpl.rc_context(SETTINGS):
    figure = Figure(figsize=(11, 8.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.05, 1))
    triangles, stacks = upper.subplots(1, 3, sharey=True), lower.subplots(1, 2, sharey=True)
    tiles = [
        draw_phases(triangles[0], phases.sel(question="head", verdict="recoverable"), "A head: certified"),
        draw_phases(
            triangles[1], phases.sel(question="head", verdict="not recoverable"), "A head: refuted by a witness"
        ),
        draw_phases(
            triangles[2], phases.sel(question="prompt", verdict="recoverable"), "A prompt and a head: certified"
        ),
    ]
    triangles[0].set_ylabel("states K")
    stacks[0].set_ylabel("share of models, accuracy (%)")
    upper.colorbar(tiles[-1], ax=triangles, label="models (%)", shrink=0.85)
    for axes, (question, name) in zip(stacks, QUESTIONS.items(), strict=True):
        title = f"{name.capitalize()}: K = {MIXED_STATES}, V = {N_TOKENS}, towards rank {MIXED_RANK}"
        draw_walk(axes, walk.sel(question=question), medians[f"{question} accuracy"], title)
    lower.legend(
        *stacks[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=SMALL, frameon=False
    )

numbers = xr.DataTree.from_dict(
    {
        "/by_rank": phases.to_dataset(name="share"),
        "/by_distance": walk.to_dataset(name="share"),
        "/mixed": by_distance.set_index(["exponent", "seed"]).to_xarray(),
    }
)
numbers.attrs = {"vocabulary_size": N_TOKENS, "length": LENGTH, "n_models": N_MODELS, "n_mixed": N_MIXED}
write(figure, numbers, options.out, NAME)
