"""How a user of each peer would draw models from their posterior; every function returns draws and what they cost.

All chains start at the model that wrote the text, so that tuning is short; it is not counted. Costs are CPU seconds.
"""

from __future__ import annotations

import os
import time

import torch
from torch import Tensor

from ppl_hmm import HMM
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.sampler import Sampler
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.texts import WeightedTexts

#: Draws of a chain that tune, and that are kept; a peer's draw may take seconds, so that fewer are wanted of it.
TUNE, DRAWS = (int(os.environ.get(f"PPL_HMM_BENCH_{name}", "300")) for name in ("TUNE", "DRAWS"))
Drawn = tuple[dict[str, Tensor], float]  # laws by name (C,D,…), and CPU seconds


def target_of(model: HMM, text: Tensor) -> Target:
    shapes = {name: tuple(getattr(model, name).shape) for name in ("initial", "transition", "emission")}
    return Target(WeightedTexts.of(text, vocabulary_size=model.vocabulary_size), DirichletPrior.of(None, shapes))


def own(sampler: Sampler, model: HMM, text: Tensor, chains: int) -> Drawn:
    target, stream = target_of(model, text), torch.Generator().manual_seed(0)
    laws = {name: getattr(model, name).expand(chains, *alpha.shape) for name, alpha in prior_of(target).items()}
    state, _ = sampler.advance(target, sampler.start(target, laws, stream), TUNE, tuning=True)
    began = time.process_time()
    _, block = sampler.advance(target, state, DRAWS, tuning=False)
    return block.laws, time.process_time() - began


def prior_of(target: Target) -> dict[str, Tensor]:
    return target.prior.concentrations


def pyro_discrete_hmm(model: HMM, text: Tensor) -> Drawn:
    """Draw by Pyro's NUTS from the program that its documentation leads to, one chain."""
    import pyro
    import pyro.distributions as dist
    from pyro.infer import NUTS

    target = target_of(model, text)

    def program():
        laws = {
            name: pyro.sample(name, dist.Dirichlet(alpha).to_event(alpha.ndim - 1))
            for name, alpha in prior_of(target).items()
        }
        initial, transition, emission = (laws[name].log() for name in ("initial", "transition", "emission"))
        hidden = dist.DiscreteHMM(initial, transition, dist.Categorical(logits=emission), duration=text.shape[1])
        with pyro.plate("texts", len(text)):
            pyro.sample("x", hidden, obs=text)

    values = {name: getattr(model, name) for name in prior_of(target)}
    kernel = NUTS(program, init_strategy=pyro.infer.autoguide.initialization.init_to_value(values=values))
    pyro.set_rng_seed(0)
    kernel.setup(TUNE)
    point, drawn, began = kernel.initial_params, [], 0.0
    for number in range(TUNE + DRAWS):
        if number == TUNE:
            began = time.process_time()
        point = kernel.sample(point)
        drawn.append({name: kernel.transforms[name].inv(value.detach()) for name, value in point.items()})
    seconds = time.process_time() - began
    return {name: torch.stack([each[name] for each in drawn[TUNE:]])[None] for name in values}, seconds


def numpyro_scan(model: HMM, text: Tensor, chains: int) -> Drawn:
    """Draw by numpyro's NUTS from a plain scan over the text, all chains vectorised; compilation is not counted."""
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import MCMC, NUTS, init_to_value

    jax.config.update("jax_enable_x64", True)
    columns = jnp.asarray(text.numpy().T)
    alphas = {name: jnp.asarray(alpha.numpy()) for name, alpha in prior_of(target_of(model, text)).items()}

    def program():
        laws = {
            name: numpyro.sample(name, dist.Dirichlet(alpha).to_event(alpha.ndim - 1)) for name, alpha in alphas.items()
        }

        def step(filtered, tokens):
            joint = (filtered @ laws["transition"]) * laws["emission"][:, tokens].T
            total = joint.sum(-1, keepdims=True)
            return joint / total, jnp.log(total[:, 0])

        start = jnp.broadcast_to(laws["initial"], (columns.shape[1], len(laws["initial"])))
        _, logs = jax.lax.scan(step, start, columns)
        numpyro.factor("texts", logs.sum())

    values = {name: jnp.asarray(getattr(model, name).numpy()) for name in alphas}
    kernel = NUTS(program, init_strategy=init_to_value(values=values))
    mcmc = MCMC(
        kernel, num_warmup=TUNE, num_samples=DRAWS, num_chains=chains, chain_method="vectorized", progress_bar=False
    )
    mcmc.warmup(jax.random.PRNGKey(0))
    state = mcmc.post_warmup_state
    mcmc.run(state.rng_key)  # compiles
    mcmc.post_warmup_state = state
    began = time.process_time()
    mcmc.run(state.rng_key)
    jax.block_until_ready(mcmc.get_samples(group_by_chain=True))
    seconds = time.process_time() - began
    found = mcmc.get_samples(group_by_chain=True)
    return {name: torch.tensor(value.tolist(), dtype=torch.float64) for name, value in found.items()}, seconds
