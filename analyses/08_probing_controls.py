# %% [markdown]
# # What does a probe of beliefs show that needs a network?
#
# A next-token model that predicts as well as can be must know its belief, P(H_t | x_1..x_t), as far as the future
# depends on it. A linear map from activations to beliefs is read as evidence of that. How much of it is there without
# a network: in the raw tokens, in the last few as one context, in the exact law of the next token?
#
# Here a small recurrent network learns two processes, mess3 and random-random-XOR, and is probed for the belief after
# every text of up to ten tokens, beside these controls, an untrained network, and shuffled beliefs. Everything is held
# out by prefix but for the two last columns: what a fit to all prefixes would have claimed.

# %%
from __future__ import annotations

import time

import matplotlib as mpl
import pandas as pd
import torch
import xarray as xr
from command import arguments, write
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from ppl_hmm import HMM, MealyHMM, belief_probe, beliefs, prefixes, probe_table, process, sample
from ppl_hmm.plots.beliefs import draw_belief_triptych, draw_excess_loss, draw_probe_layers, excess_loss
from ppl_hmm.plots.style import SETTINGS

NAME = "probing-controls"
options = arguments("Probes of a trained network for beliefs, beside what needs no network", NAME)

LENGTH = 4 if options.smoke else 10  # of the longest prefix
BATCHES, BATCH, TRAINED = (20, 32, 8) if options.smoke else (2000, 256, 16)  # texts of so many tokens
WIDTH, RATE = 64, 0.02
PROCESSES = ("mess3", "rrxor")
N_TEXTS = 200 if options.smoke else 1000  # on which losses are measured


# %% [markdown]
# ## Network


# %%
def new_network(vocabulary_size: int) -> torch.nn.ModuleDict:
    """Return one layer of gated recurrent units that predicts the next token."""
    units = torch.nn.GRU(vocabulary_size + 1, WIDTH, batch_first=True)
    return torch.nn.ModuleDict({"units": units, "predict": torch.nn.Linear(WIDTH, vocabulary_size)})


def states(network: torch.nn.ModuleDict, tokens: Tensor) -> Tensor:
    """Return the states (B,T+1,D) after a start symbol and after each token."""
    start = network["units"].input_size - 1
    started = torch.nn.functional.pad(tokens, (1, 0), value=start)
    return network["units"](one_hot(started, start + 1).float())[0]


def trained(model: HMM, seed: int) -> torch.nn.ModuleDict:
    """Return a network that has read every text once."""
    network = new_network(model.vocabulary_size)
    texts = sample(model, BATCHES * BATCH, TRAINED, seed=seed).tokens
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, BATCHES)
    for batch in texts.split(BATCH):
        loss = cross_entropy(network["predict"](states(network, batch[:, :-1])).mT, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


# %% [markdown]
# ## Probes


# %%
def every_prefix(machine: HMM | MealyHMM) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return texts (N,T) of 0..T tokens, their lengths, probabilities and beliefs."""
    found = [prefixes(machine, length) for length in range(LENGTH + 1)]
    tokens = torch.cat([torch.nn.functional.pad(each.tokens, (0, LENGTH - each.tokens.shape[1])) for each in found])
    lengths = torch.cat([torch.full((len(each.tokens),), length) for length, each in enumerate(found)])
    return tokens, lengths, torch.cat([each.probability for each in found]), torch.cat([each.beliefs for each in found])


def probed(name: str, seed: int) -> tuple[dict[str, xr.DataTree], dict[str, xr.Dataset], float]:
    """Return probes by weighting, losses of the networks by position, and the CPU seconds that training took."""
    machine = process(name)
    model = machine.hmm if isinstance(machine, MealyHMM) else machine
    torch.manual_seed(seed)
    untrained = new_network(model.vocabulary_size)
    start = time.process_time()
    network = trained(model, seed)
    seconds = time.process_time() - start
    tokens, lengths, probability, laws = every_prefix(machine)
    rows = torch.arange(len(tokens))
    with torch.no_grad():
        after, without = (states(each, tokens)[rows, lengths] for each in (network, untrained))
        text = sample(model, N_TEXTS, 3 * LENGTH, seed=seed + 1).tokens
        exact = beliefs(model, text).next_token
        losses = {
            label: excess_loss(each["predict"](states(each, text)), exact)
            for label, each in (("trained", network), ("untrained", untrained))
        }
    trees = {
        weighting: belief_probe(
            {"GRU": after},
            laws,
            model,
            tokens,
            lengths=lengths,
            weights=weights,
            controls={"untrained GRU": without},
            seed=seed,
        )
        for weighting, weights in (("each prefix once", None), ("prefixes by probability", probability))
    }
    return trees, losses, seconds


found = {name: probed(name, options.seed) for name in PROCESSES}

# %% [markdown]
# ## Tables

# %%
pd.set_option("display.width", 120)
for name, (trees, losses, seconds) in found.items():
    last = losses["trained"]["excess"].isel(position=slice(0, LENGTH)).mean()
    print(f"\n{name}: trained in {seconds:.0f} CPU seconds to {float(last):.4f} nats over the optimal loss")
    for weighting, tree in trees.items():
        print(f"\n{name}, {weighting}: {len(tree['prefixes/weight'])} prefixes of up to {LENGTH} tokens")
        print(probe_table(tree).round(3).to_string())

# %% [markdown]
# ## Figure

# %%
with mpl.rc_context(SETTINGS):
    figure = Figure(figsize=(11, 12), layout="constrained")
    parts = figure.subfigures(2 * len(PROCESSES), 1, height_ratios=(1, 1) * len(PROCESSES))
    for (name, (trees, losses, _)), (upper, lower) in zip(found.items(), parts.reshape(-1, 2), strict=True):
        upper.suptitle(f"{name}: beliefs after every text of up to {LENGTH} tokens")
        draw_belief_triptych(trees["each prefix once"], figure=upper)
        left, right = lower.subplots(1, 2, width_ratios=(1, 1))
        draw_probe_layers(trees["each prefix once"], axes=left)
        draw_excess_loss(losses, axes=right)

numbers = xr.DataTree.from_dict(
    {
        f"/{name}/{weighting.replace(' ', '-')}": tree
        for name, (trees, _, _) in found.items()
        for weighting, tree in trees.items()
    }
    | {
        f"/{name}/loss": xr.concat(losses.values(), "network").assign_coords(network=list(losses))
        for name, (_, losses, _) in found.items()
    }
    | {"/timings": xr.Dataset({"seconds": ("process", [seconds for _, _, seconds in found.values()])})}
)
numbers.attrs = {"length": LENGTH, "n_batches": BATCHES, "batch": BATCH, "trained_length": TRAINED, "width": WIDTH}
write(figure, numbers, options.out, NAME)
