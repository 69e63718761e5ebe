"""Posterior moments of the Gibbs sampler are those of the sum over all paths of all texts."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import gammaln, logsumexp

from ppl_hmm import MASK
from ppl_hmm.estimation.bayes.gibbs import GibbsSampler
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.texts import WeightedTexts

CHAINS, DRAWS = 100, 300
#: Equal texts have paths of their own; one text has a gap, and they end in different places.
TEXTS = [[0, 1], [0, 1], [2, 0, MASK, 1]]


def target(tokens, concentrations, cells=None):
    texts = WeightedTexts.of(tokens, vocabulary_size=3)
    prior = DirichletPrior({name: torch.tensor(alpha) for name, alpha in concentrations.items()})
    return Target(texts, prior, None if cells is None else torch.tensor(cells))


def completions(text, concentrations, cells):
    """Yield the counts of each memory and path of a text, by name."""
    n_states, has_memory = len(concentrations["initial"]), "memory_prior" in concentrations
    n_cells, n_values = concentrations["memory_prior"].shape if has_memory else (0, 1)
    for memory in itertools.product(range(n_values), repeat=n_cells):
        for path in itertools.product(range(n_states), repeat=len(text) + 1):
            counts = {name: np.zeros_like(alpha) for name, alpha in concentrations.items()}
            for cell, value in enumerate(memory):
                counts["memory_prior"][cell, value] += 1
            counts["initial"][path[0]] += 1
            for before, state, token in zip(path, path[1:], text, strict=False):
                counts["transition"][before, state] += 1
                if token != MASK:
                    place = (memory[cells[state]], state, token) if n_cells else (state, token)
                    counts["emission"][place] += 1
            yield counts


def exact_moments(tokens, concentrations, cells=None):
    """Return E[law | texts] and E[law² | texts] by name, by the evidence of Dirichlet-multinomial counts."""
    weights, first, second = [], [], []
    each = [list(completions(text, concentrations, cells)) for text in tokens]
    for joint in itertools.product(*each):
        posterior = {name: alpha + sum(one[name] for one in joint) for name, alpha in concentrations.items()}
        log_weight, totals = 0.0, {}
        for name, alpha in concentrations.items():
            totals[name] = posterior[name].sum(-1, keepdims=True)
            log_weight += (gammaln(posterior[name]) - gammaln(alpha)).sum()
            log_weight += (gammaln(alpha.sum(-1)) - gammaln(totals[name][..., 0])).sum()
        mean = {name: posterior[name] / totals[name] for name in posterior}
        weights.append(log_weight)
        first.append(mean)
        second.append({name: mean[name] * (posterior[name] + 1) / (totals[name] + 1) for name in posterior})
    shares = np.exp(np.array(weights) - logsumexp(weights))
    return [
        {name: np.tensordot(shares, [one[name] for one in moment], 1) for name in concentrations}
        for moment in (first, second)
    ]


def alphas(seed, **shapes):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.4, 3, shape) for name, shape in shapes.items()}


CASES = {
    "chain": (TEXTS, alphas(0, initial=2, transition=(2, 2), emission=(2, 3)), None),
    "memory": (
        [[0, 1], [2, 0, 0]],
        alphas(1, memory_prior=(2, 2), initial=2, transition=(2, 2), emission=(2, 2, 3)),
        [0, 1],
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_moments_are_those_of_the_sum_over_all_paths(kind):
    tokens, concentrations, cells = CASES[kind]
    goal, stream, sampler = target(tokens, concentrations, cells), torch.Generator().manual_seed(0), GibbsSampler()
    state = sampler.start(goal, goal.prior.draw(CHAINS, stream), stream)
    state, _ = sampler.advance(goal, state, 20, tuning=True)
    _, block = sampler.advance(goal, state, DRAWS, tuning=False)
    for power, moments in enumerate(exact_moments(tokens, concentrations, cells), 1):
        for name, wanted in moments.items():
            by_chain = (block.laws[name] ** power).mean(1).numpy()
            error = by_chain.std(0, ddof=1) / np.sqrt(CHAINS)
            assert (np.abs(by_chain.mean(0) - wanted) < 4 * error).all(), (name, power)


def test_the_density_is_the_evidence_times_the_prior():
    tokens, concentrations, cells = CASES["memory"]
    goal = target(tokens, concentrations, cells)
    laws = goal.prior.draw(3, torch.Generator().manual_seed(1))
    counts, log_evidence = goal.counts(laws)
    torch.testing.assert_close(goal.log_density(laws) - goal.prior.log_density(laws), log_evidence)
    for name, law in laws.items():  # the derivative by the logit of an entry
        step = {other: value.clone() for other, value in laws.items()}
        step[name].view(3, -1)[:, 0] *= 1 + 1e-6
        step[name] /= step[name].sum(-1, keepdim=True)
        slope = (goal.log_evidence(step) - log_evidence) / 1e-6
        row, of_row = (each[name].reshape(3, -1, law.shape[-1])[:, 0] for each in (laws, counts))
        torch.testing.assert_close(slope, of_row[:, 0] - row[:, 0] * of_row.sum(-1), rtol=1e-4, atol=1e-4)


def test_the_prior_is_normalised():
    prior = DirichletPrior({"emission": torch.tensor([[2.0, 3.0]], dtype=torch.float64)})
    grid = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    density = prior.log_density({"emission": torch.stack([grid, 1 - grid], -1)[:, None]}).exp()
    assert density.mean() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 1.0, 30.0])
def test_draws_of_the_prior_have_its_moments(alpha):
    prior = DirichletPrior({"initial": torch.full((3,), alpha, dtype=torch.float64)})
    drawn = prior.draw(20_000, torch.Generator().manual_seed(0))["initial"]
    assert (drawn > 0).all()
    variance = (1 / 3) * (2 / 3) / (3 * alpha + 1)
    assert drawn.mean(0).numpy() == pytest.approx(1 / 3, abs=4 * (variance / 20_000) ** 0.5)
    assert drawn.var(0).numpy() == pytest.approx(variance, rel=0.06)
