"""How a user of each peer would compute the same quantity; every function returns one that takes no arguments.

All get the law of the first emitting state, π₀A, where the peer has no silent start.
"""

from __future__ import annotations

import numpy as np
import torch

from ppl_hmm import HMM


def hmmlearn(model: HMM, text: torch.Tensor):
    other = model.to(torch.float64).to_hmmlearn()
    other.implementation = "scaling"
    column, lengths = text.numpy().reshape(-1, 1), [text.shape[1]] * len(text)
    return lambda: other.predict_proba(column, lengths).reshape(*text.shape, model.n_states)


def dynamax(model: HMM, text: torch.Tensor):
    from dynamax.hidden_markov_model.inference import hmm_smoother

    return _of_each_text(model, text, lambda *one: hmm_smoother(*one).smoothed_probs)


def dynamax_evidence(model: HMM, text: torch.Tensor):
    from dynamax.hidden_markov_model.inference import hmm_filter

    return _of_each_text(model, text, lambda *one: hmm_filter(*one).marginal_loglik)


def _of_each_text(model: HMM, text: torch.Tensor, infer):
    """Map what dynamax infers from one text's log-likelihoods over texts, compiled."""
    import jax
    import jax.numpy as jnp

    start, transition, emission, tokens = _for_jax(model, text)

    @jax.jit
    def of_texts(start, transition, emission, tokens):
        logs = jnp.log(emission)
        return jax.vmap(lambda one: infer(start, transition, logs[:, one].T))(tokens)

    return lambda: of_texts(start, transition, emission, tokens).block_until_ready()


def dynamax_gradient(model: HMM, text: torch.Tensor):
    import jax
    import jax.numpy as jnp
    from dynamax.hidden_markov_model.inference import hmm_filter

    start, transition, emission, tokens = _for_jax(model, text)

    @jax.jit
    @jax.value_and_grad
    def loss(parameters):
        start, transition, emission = parameters
        logs = jnp.log(emission)
        each = jax.vmap(lambda one: hmm_filter(start, transition, logs[:, one].T).marginal_loglik)
        return each(tokens).sum()

    return lambda: jax.block_until_ready(loss((start, transition, emission)))


def jax_scan(model: HMM, text: torch.Tensor, platform: str):
    """Smooth in scaled probabilities: what one writes in JAX itself, for one text, and maps over texts."""
    import jax
    import jax.numpy as jnp

    (device, *_) = jax.devices(platform)
    arrays = [jax.device_put(array, device) for array in _for_jax(model, text)]

    @jax.jit
    def smooth(start, transition, emission, tokens):
        def forward(predicted, likelihood):
            joint = predicted * likelihood
            filtered = joint / joint.sum()
            return filtered @ transition, filtered

        def backward(message, likelihood):
            before = transition @ (likelihood * message)
            return before / before.sum(), message

        def one(text):
            likelihoods = emission[:, text].T
            _, filtered = jax.lax.scan(forward, start, likelihoods)
            _, messages = jax.lax.scan(backward, jnp.ones_like(start), likelihoods, reverse=True)
            joint = filtered * messages
            return joint / joint.sum(-1, keepdims=True)

        with jax.default_matmul_precision("highest"):  # float32 as such, not TF32
            return jax.vmap(one)(tokens)

    return lambda: smooth(*arrays).block_until_ready()


def pomegranate(model: HMM, text: torch.Tensor):
    from pomegranate.distributions import Categorical
    from pomegranate.hmm import DenseHMM

    emissions = [Categorical(row[None]) for row in model.emission]
    start = model.initial @ model.transition
    # Its rows may sum to less than one by the probability of ending; a tiny one is what it needs to run.
    ends = torch.full_like(start, 1e-6)
    other = DenseHMM(emissions, edges=model.transition, starts=start, ends=ends)
    return lambda: other.predict_proba(text[..., None])


def pyro_gradient(model: HMM, text: torch.Tensor):
    def value_and_gradient():
        leaves = [
            array.detach().clone().requires_grad_() for array in (model.initial, model.transition, model.emission)
        ]
        value = HMM(*leaves).to_discrete_hmm().log_prob(text).sum()
        return value.detach(), torch.autograd.grad(value, leaves)

    return value_and_gradient


def pyro_filter(model: HMM, text: torch.Tensor):
    other = model.to_discrete_hmm()
    return lambda: other.filter(text).probs


def roofline(model: HMM, text: torch.Tensor):
    """Return what a smoother by torch's products takes at least: two a step, and one write of the answer."""
    (n_texts, length), k = text.shape, model.n_states
    law, out = torch.rand(n_texts, k, dtype=model.dtype), torch.empty(n_texts, k, dtype=model.dtype)
    answer = torch.from_numpy(np.empty((n_texts, length, k), str(model.dtype).removeprefix("torch.")))

    def products():
        for _ in range(2 * length):
            torch.mm(law, model.transition, out=out)
        answer.fill_(1)

    return products


def _for_jax(model: HMM, text: torch.Tensor):
    import jax.numpy as jnp

    start = model.initial @ model.transition
    return [jnp.asarray(array.numpy()) for array in (start, model.transition, model.emission, text)]


def hmmlearn_iteration(model: HMM, text: torch.Tensor, implementation: str):
    """Fit for one iteration of all parameters, from this model each time; the fitted one is left as the attribute."""
    other = model.to(torch.float64).to_hmmlearn()
    other.implementation, other.n_iter, other.tol = implementation, 1, -np.inf
    start = {name: getattr(other, name).copy() for name in ("startprob_", "transmat_", "emissionprob_")}
    column, lengths = text.numpy().reshape(-1, 1), [text.shape[1]] * len(text)

    def iteration():
        for name, values in start.items():
            setattr(other, name, values)
        other.fit(column, lengths)
        return other

    return iteration


def dynamax_iteration(model: HMM, text: torch.Tensor):
    """Count with its smoother and normalise. Its own ``fit_em`` compiles anew each time, and writes tokens one-hot."""
    import jax
    import jax.numpy as jnp
    from dynamax.hidden_markov_model.inference import hmm_smoother

    start, transition, emission, tokens = _for_jax(model, text)

    def counts(start, transition, logs, one):
        posterior = hmm_smoother(start, transition, logs[:, one].T)
        emitted = jnp.zeros(logs.T.shape).at[one].add(posterior.smoothed_probs)
        return posterior.marginal_loglik, posterior.initial_probs, posterior.trans_probs, emitted.T

    @jax.jit
    def iteration(start, transition, emission, tokens):
        logs = jnp.log(emission)

        def add(total, one):
            return jax.tree.map(jnp.add, total, counts(start, transition, logs, one)), None

        if len(tokens) > 100:  # a table of counts for each text would not fit
            first = counts(start, transition, logs, tokens[0])
            (evidence, *uses), _ = jax.lax.scan(add, first, tokens[1:])
        else:
            each_text = jax.vmap(lambda one: counts(start, transition, logs, one))(tokens)
            evidence, *uses = (each.sum(0) for each in each_text)
        return evidence, *(each / each.sum(-1, keepdims=True) for each in uses)

    return lambda: jax.block_until_ready(iteration(start, transition, emission, tokens))
