# %% [markdown]
# # In-context learning as exact Bayesian inference
#
# A text of the regime `ginc` (Xie, Raghunathan, Liang & Ma 2021) keeps one hidden concept, a transition matrix of its
# slots. Two questions, answered by exact inference where the paper trains a language model:
#
# 1. How fast does a document of the model's own law reveal its concept?
# 2. A prompt of independent examples is *not* text of that law. Is its concept inferred all the same, and applied to a
#    test example? The answer asked for is the most probable last token of the test example under its own concept.
#
# Means over models with 95 % intervals: models are the unit that is drawn at random.

# %%
from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from command import arguments, write
from matplotlib.figure import Figure
from scipy import stats

from ppl_hmm import random_hmm, sample
from ppl_hmm.inference.concepts import (
    concept_information,
    concept_posterior,
    in_context_prediction,
    tokens_to_reveal,
)
from ppl_hmm.plots.style import BLUE, GREEN, PURPLE, SETTINGS, VERMILION
from ppl_hmm.regimes.ginc import in_context_text

NAME = "ginc-concepts"
options = arguments("Concept posteriors and in-context accuracy of the regime ginc", NAME)

SIZES = {"n_concepts": 20, "n_values": 4, "n_slots": 8, "vocabulary_size": 20}
#: Mixed into every transition, so that delimiters can follow, and be followed by, every state (the paper's assumption).
SMOOTHING = 0.05
LEVEL = 0.95
COLOURS = (BLUE, VERMILION, GREEN, PURPLE)
MARKERS = "os^D"

N_MODELS, N_TEXTS, LENGTH = (2, 40, 30) if options.smoke else (8, 100, 30)
N_EXAMPLES = (0, 1, 4) if options.smoke else (0, 1, 2, 4, 8, 16)
EXAMPLE_LENGTHS = (3, 6) if options.smoke else (3, 4, 6, 10)
seeds = range(options.seed, options.seed + N_MODELS)


def model_of(seed: int, smoothing: float):
    """Return a random model of the sizes above."""
    n_states = SIZES["n_concepts"] * SIZES["n_values"] * SIZES["n_slots"]
    shape = {"n_concepts": SIZES["n_concepts"], "n_slots": SIZES["n_slots"], "smoothing": smoothing}
    return random_hmm("ginc", n_states, SIZES["vocabulary_size"], seed, **shape)


def mean_and_half_width(values: pd.Series) -> pd.Series:
    """Return the mean over models and the half-width of its 95 % interval."""
    half_width = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    return pd.Series({"mean": values.mean(), "half_width": half_width})


# %% [markdown]
# ## Documents


# %%
def document_rows(seed: int) -> list[dict[str, float]]:
    """Return what prefixes of one model's documents reveal, one row for each number of tokens."""
    model = model_of(seed, SMOOTHING)
    drawn = sample(model, N_TEXTS, LENGTH, seed)
    concept = model.concept_of_state[drawn.initial_state]
    posterior = concept_posterior(model, drawn.tokens)
    revealed_at = tokens_to_reveal(posterior, concept, LEVEL)
    information = concept_information(posterior).mean(0) / np.log(SIZES["n_concepts"])
    rows = []
    for t in range(LENGTH + 1):
        of_concept = posterior[range(N_TEXTS), t, concept]
        revealed = ((revealed_at >= 0) & (revealed_at <= t)).double()
        rows.append(
            {
                "seed": seed,
                "tokens": t,
                "posterior": float(of_concept.mean()),
                "revealed": float(revealed.mean()),
                "information": float(information[t]),
            }
        )
    return rows


documents = pd.DataFrame([row for seed in seeds for row in document_rows(seed)])

# %% [markdown]
# ## Prompts of examples
#
# The law of the model gives a prompt of independent examples probability zero if some delimiter cannot follow, or lead
# to, what the next example starts with. Without smoothing, as in the released data, that is the rule for long prompts:
# exact Bayes then predicts nothing, whatever a trained model says.


# %%
def prompt_row(seed: int, example_length: int, n_examples: int) -> dict[str, float]:
    """Return the accuracy of exact Bayes after prompts of one model; and how many are possible without smoothing."""
    model, released = model_of(seed, SMOOTHING), model_of(seed, 0.0)
    found = in_context_prediction(model, in_context_text(model, N_TEXTS, n_examples, example_length, seed))
    unsmoothed = in_context_prediction(released, in_context_text(released, N_TEXTS, n_examples, example_length, seed))
    return {
        "seed": seed,
        "example_length": example_length,
        "n_examples": n_examples,
        "accuracy": float(found.correct.double().mean()),
        "posterior": float(found.concept.mean()),
        "possible, ε=0": float(unsmoothed.possible.double().mean()),
    }


prompts = pd.DataFrame([prompt_row(seed, k, n) for seed in seeds for k in EXAMPLE_LENGTHS for n in N_EXAMPLES])

# %% [markdown]
# ## Tables

# %%
by_tokens = documents.groupby("tokens")[["posterior", "revealed", "information"]].mean()
by_prompt = prompts.groupby(["example_length", "n_examples"])[["accuracy", "posterior", "possible, ε=0"]].mean()
described = ", ".join(f"{name} {size}" for name, size in SIZES.items())
print(f"{N_MODELS} models ({described}, smoothing {SMOOTHING}), {N_TEXTS} texts each\n")
print(f"Documents: P(concept), share revealed at {LEVEL}, information as a share of log C, by tokens read\n")
print(by_tokens.loc[[t for t in (0, 1, 2, 3, 5, 10, 20, 30) if t <= LENGTH]].round(3).to_string(), end="\n\n")
print(
    "Prompts: accuracy of exact Bayes, P(concept); share of prompts that are possible with no smoothing, as released\n"
)
print(by_prompt.round(3).to_string(), end="\n\n")

# %% [markdown]
# ## Figure

# %%
LINES = {
    "posterior": "mean posterior of the true concept",
    "revealed": f"share of documents whose posterior stays ≥ {LEVEL}",
    "information": "information about the concept, share of log C",
}
with mpl.rc_context(SETTINGS):
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, label), colour in zip(LINES.items(), COLOURS, strict=False):
        found = documents.groupby("tokens")[name].apply(mean_and_half_width).unstack()
        left.plot(found.index, found["mean"], color=colour, label=label)
        low, high = found["mean"] - found["half_width"], found["mean"] + found["half_width"]
        left.fill_between(found.index, low, high, color=colour, alpha=0.2, linewidth=0)
    left.set(xlabel="tokens read", ylabel="share", ylim=(0, 1.02), xlim=(0, LENGTH))
    left.set_title("Documents reveal their concept")
    left.legend(frameon=False, loc="lower right")

    positions = np.arange(len(N_EXAMPLES))
    for length, colour, marker in zip(EXAMPLE_LENGTHS, COLOURS, MARKERS, strict=False):
        of_length = prompts[prompts["example_length"] == length]
        found = of_length.groupby("n_examples")["accuracy"].apply(mean_and_half_width).unstack()
        bars = {"yerr": found["half_width"], "color": colour, "marker": marker, "capsize": 2}
        right.errorbar(positions, found["mean"], label=f"{length} tokens", **bars)
    right.set_xticks(positions, [str(n) for n in N_EXAMPLES])
    right.set(xlabel="examples in the prompt", ylabel="accuracy of the exact next-token law", ylim=(0, 1.02))
    right.set_title("Independent examples teach it in context")
    right.legend(title="example length, answer included", frameon=False, loc="lower right", ncols=2)
    bands = f"means over {N_MODELS} models with 95 % intervals"
    figure.suptitle(f"{SIZES['n_concepts']} concepts, exact Bayes in place of a trained model; {bands}", fontsize=11)

numbers = xr.DataTree.from_dict(
    {
        "/documents": documents.set_index(["seed", "tokens"]).to_xarray(),
        "/prompts": prompts.set_index(["seed", "example_length", "n_examples"]).to_xarray(),
    }
)
numbers.attrs = SIZES | {"smoothing": SMOOTHING, "n_texts": N_TEXTS}
write(figure, numbers, options.out, NAME)
