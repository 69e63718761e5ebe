# %% [markdown]
# # What do heads learn from pretrained language models of antibodies?
#
# No hidden Markov model here: real masked language models, and labels. Sapiens (MIT licence) has 0.57 million weights
# for each chain, AntiBERTy (MIT) 25.8 million. `antibodies.py` says how the wheels that carry them are found. Sequences
# are sampled from Sapiens: the variable domains in the wheels' own descriptions, of which 15 % of the sites are drawn
# again at every step.
#
# Two tasks can be read from the sequence: which chain it is, from the law at a mask in front of it, and what kind of
# residue (hydrophobic, polar, charged) a masked site has, from the law there. Beside them stand the same texts with
# shuffled labels: there nothing must be learned. With `--smoke` an untrained network and random text stand in.

# %%
from __future__ import annotations

import time

import antibodies
import matplotlib as mpl
import numpy as np
import torch
import xarray as xr
from command import arguments, write
from matplotlib.figure import Figure

from ppl_hmm import BidirectionalLM, audit_features, audit_language_model
from ppl_hmm.plots.style import BLUE, REFERENCE, SETTINGS

NAME = "antibodies"
options = arguments("Heads on pretrained language models of antibodies, beside shuffled labels", NAME)

LENGTH = 12 if options.smoke else 112
N_TEXTS, N_STEPS = (40, 0) if options.smoke else (400, 12)  # texts of each chain; steps of sampling
N_LARGE = 100  # texts of each chain that the large model reads
SITES = (3, 5, 7) if options.smoke else (20, 35, 50, 68, 80, 95)
stream = torch.Generator().manual_seed(options.seed)


# %%
def texts_of(chain: str, lm) -> torch.Tensor:
    """Return sampled texts (B,T) of a chain, ids of Sapiens."""
    starts = [text[:LENGTH] for text in antibodies.carried()[chain] if len(text) >= LENGTH]
    return antibodies.sampled(lm, antibodies.residues((starts * N_TEXTS)[:N_TEXTS], 4), N_STEPS, stream)


if options.smoke:
    small, large, shift = BidirectionalLM(20, width=4, seed=0), None, 0
    heavy, light = (torch.randint(low, high, (N_TEXTS, LENGTH), generator=stream) for low, high in ((0, 15), (5, 20)))
else:
    small, large, shift = antibodies.sapiens("vh"), antibodies.antiberty(), 4
    heavy, light = texts_of("vh", small), texts_of("vl", antibodies.sapiens("vl"))


# %% [markdown]
# ## The chain, from the law in front of the text


# %%
def chain_audit(lm, n_texts: int, moved: int, shuffled: bool) -> xr.DataTree:
    """Audit a language model on heavy and light chains, whose ids are moved to its own."""
    tokens = torch.cat([heavy[:n_texts], light[:n_texts]]) + moved
    labels = np.repeat(["heavy", "light"], n_texts)
    if shuffled:
        labels = np.random.default_rng(options.seed).permutation(labels)
    return audit_language_model(lm, tokens, labels, n_prompt_tokens=0, seed=options.seed)


# %% [markdown]
# ## The kind of a masked residue, from the law there


# %%
def kind_audit(shuffled: bool) -> xr.DataTree:
    """Audit the laws of masked sites of heavy chains, labelled by what the residue there is like."""
    site = np.arange(N_TEXTS) % len(SITES)
    found = torch.empty(N_TEXTS, 20)
    for number, position in enumerate(SITES):
        own = torch.from_numpy(site == number)
        found[own] = small.conditionals(heavy[own], positions=[position])[:, 0].detach().float()
    letters = heavy[torch.arange(N_TEXTS), torch.tensor(SITES)[torch.from_numpy(site)]] - shift
    kind_of = {letter: kind for kind, letters in antibodies.KINDS.items() for letter in letters}
    labels = np.array([kind_of[antibodies.RESIDUES[letter]] for letter in letters.tolist()])
    if shuffled:
        labels = np.random.default_rng(options.seed).permutation(labels)
    return audit_features(found, labels, seed=options.seed)


# %%
audits = {}
for shuffled in (False, True):
    suffix = ", shuffled" if shuffled else ""
    audits[f"chain, Sapiens{suffix}"] = chain_audit(small, N_TEXTS, 0, shuffled)
    if large is not None:
        audits[f"chain, AntiBERTy{suffix}"] = chain_audit(large, N_LARGE, 1, shuffled)
    audits[f"kind of residue, Sapiens{suffix}"] = kind_audit(shuffled)
for name, tree in audits.items():
    print(f"\n== {name}\n{tree.ppl_hmm.report()}")

started = time.process_time()
small.conditionals(heavy[:1])
print(f"\nall {LENGTH} leave-one-out positions of one text: {time.process_time() - started:.1f} CPU s")

# %%
learned = xr.concat(
    [tree["diagnostics/learned"].to_dataset().sel(approach="head", drop=True) for tree in audits.values()], dim="audit"
).assign_coords(audit=list(audits))
shown = learned[["accuracy", "control_accuracy", "selectivity", "selectivity_low", "selectivity_high"]]
print(shown.to_dataframe().round(3).to_string())

with mpl.rc_context(SETTINGS):
    figure = Figure(figsize=(7.5, 1.2 + 0.45 * len(audits)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(reversed(audits)):
        row = 100 * learned.sel(audit=name)
        axes.plot([row["selectivity_low"], row["selectivity_high"]], [place] * 2, color=BLUE, linewidth=2)
        axes.plot(row["selectivity"], place, color=BLUE, marker="o")
    axes.axvline(0, **REFERENCE)
    axes.set_yticks(range(len(audits)), list(reversed(audits)))
    axes.set(xlabel="selectivity of a head (points, 95 % interval)")
write(figure, learned, options.out, NAME)
