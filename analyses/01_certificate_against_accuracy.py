# %% [markdown]
# # Does the verdict foretell the learned head?
#
# Random models, a third of them with dependent rows of W, each with a random task. The audit reads all texts of four
# tokens and answers with a verdict. Beside it stands what somebody who knows nothing of the model would measure: a
# linear head learned from sampled texts, and its accuracy on fresh ones. An answer is worth having if *recoverable*
# comes with an accurate head, and the models where it does not are known in advance by their conditioning.
#
# The converse asks less. A witness is a handful of texts that no head gets right, and they may be rare; *undecided*
# says that no theorem applies and that the short texts can be separated, so that a head may well learn them.

# %%
from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from command import arguments, write

from ppl_hmm import InvalidInput, PosteriorTask, audit, random_hmm, random_task, sample
from ppl_hmm.audits.figures.catalogue import draw_certificates
from ppl_hmm.recoverability.witness import SEPARATION

NAME = "certificate-against-accuracy"
options = arguments("Verdicts of audits beside the accuracy of learned heads, on random models", NAME)

N_MODELS, N_TEXTS = (6, 512) if options.smoke else (500, 4096)
LENGTH = 4
GOOD = 0.995
QUESTIONS = ["head", "prompt"]


# %%
def random_case(seed: int):
    """Return a random model, K and V from 2 to 8, and a task that divides its text if one is found."""
    n_states, n_tokens = map(int, np.random.default_rng(seed).integers(2, 9, size=2))
    model = random_hmm("degenerate" if seed % 3 == 0 else "dirichlet", n_states, n_tokens, seed)
    try:
        return model, random_task(model, seed, sample(model, 300, LENGTH, seed).tokens)
    except InvalidInput:  # hardly any text changes the posterior
        return model, random_task(model, seed)


def constant_accuracy(tree: xr.DataTree, task: PosteriorTask) -> float:
    """Return the accuracy of always answering the likelier class, on decidable texts; NaN if there are none."""
    answers = tree["exact_posterior"].to_dataset()
    weights = np.ones(answers.sizes["sequence"])
    if "probability" in tree["observed_data"]:
        weights = tree["observed_data/probability"].values
    shares = np.bincount(answers["label"], weights=weights * answers["decidable"], minlength=task.n_classes)
    return shares.max() / shares.sum() if shares.sum() > 0 else np.nan


def audited(seed: int) -> xr.Dataset:
    """Return what the audit of one model says, by question."""
    model, task = random_case(seed)
    tree = audit(model, task, length=LENGTH, n_sequences=N_TEXTS, seed=seed)
    asked = ["verdict", "theorem", "residual", "sigma_min", "separation_margin", "learned_accuracy"]
    return (
        tree["recoverability"]
        .to_dataset()[asked]
        .assign(
            n_states=model.n_states,
            vocabulary_size=model.vocabulary_size,
            sigma_min_emission=tree["diagnostics/conditioning/sigma_min"].sel(matrix="emission", drop=True),
            constant_accuracy=constant_accuracy(tree, task),
        )
    )


seeds = range(options.seed, options.seed + N_MODELS)
numbers = xr.concat([audited(seed) for seed in seeds], pd.Index(seeds, name="model"))
numbers = numbers.assign_attrs(n_texts=N_TEXTS, length=LENGTH)

# %% [markdown]
# ## Tables

# %%
rows = numbers.to_dataframe().reset_index()
rows["above_constant"] = rows["learned_accuracy"] - rows["constant_accuracy"]
answers = rows.groupby(["question", "verdict"])
table = (
    answers["learned_accuracy"].quantile([0, 0.05, 0.5, 1]).unstack().set_axis(["min", "5 %", "median", "max"], axis=1)
)
table.insert(0, "models", answers.size())
table[f"≥ {GOOD:.1%}"] = answers["learned_accuracy"].apply(lambda accuracy: (accuracy >= GOOD).mean())
table["above constant"] = answers["above_constant"].median()
table["separable"] = answers["separation_margin"].apply(lambda margin: (margin > SEPARATION).mean())
print(f"{N_MODELS} models: accuracy of the head learned from texts of {LENGTH} tokens, by what the audit said;")
print(
    "'above constant': median gain over always answering the likelier class; 'separable': share of models where a head"
)
print("classifies all texts\n")
print(table.round(4).to_string(), end="\n\n")

below = rows[(rows["verdict"] == "recoverable") & ~(rows["learned_accuracy"] >= GOOD)]
columns = ["question", "model", "n_states", "vocabulary_size", "sigma_min_emission", "residual", "separation_margin"]
certified = rows[rows["verdict"] == "recoverable"].groupby("question")["sigma_min_emission"].median()
print(
    f"certified, and yet learned to less than {GOOD:.1%} (median σ_min(W) of the certified: {certified['head']:.2g})\n"
)
print(
    below[[*columns, "learned_accuracy"]].to_string(index=False, float_format="{:.4g}".format) if len(below) else "none"
)

# %% [markdown]
# ## Figure

# %%
write(draw_certificates(numbers.sel(question="head")), numbers, options.out, NAME)
