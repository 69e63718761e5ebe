"""Programs with priors: both forms have one density, that of the text and of the Dirichlet laws; Pyro runs them."""

import functools

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, TraceEnum_ELBO, infer_discrete
from pyro.infer.autoguide import AutoNormal
from torch.distributions import Dirichlet

from ppl_hmm import (
    HMM,
    DirichletGuide,
    HMMPrior,
    InvalidInput,
    MemoryHMM,
    MemoryHMMPrior,
    hmm_program,
    log_likelihood,
    memory_program,
    posterior,
)

agree = functools.partial(torch.testing.assert_close, rtol=0, atol=1e-10)
FORMS = pytest.mark.parametrize("summed", [False, True], ids=["enumerated", "summed"])
TEXT = np.array([[0, 1, 2, 1], [2, -1, 0, -1], [1, 1, -1, -1], [0, 2, 2, 0]])
GROUPS = [1, 0, 1, 1]
#: K, V, and m, N where there is a memory.
SIZES = [(3, 3), (1, 3), (2, 3, 2, 2), (2, 3, 1, 1), (1, 3, 2, 1)]


def prior_of(sizes, seed=0):
    stream = torch.Generator().manual_seed(seed)

    def concentrations(*shape):
        return 0.3 + 2 * torch.rand(shape, dtype=torch.float64, generator=stream)

    k, v, *memory = sizes
    chain = concentrations(k), concentrations(k, k)
    if not memory:
        return HMMPrior(*chain, concentrations(k, v))
    m, n = memory
    return MemoryHMMPrior(concentrations(n, m), *chain, [h % n for h in range(k)], concentrations(m, k, v))


def program_of(prior):
    return hmm_program if isinstance(prior, HMMPrior) else memory_program


def draw(prior, *plate):
    """Return laws from the prior, by name, and the log density of all."""
    laws, density = {}, 0.0
    for name, concentration in prior.concentrations.items():
        law = Dirichlet(concentration)
        laws[name] = law.sample(plate)
        density += law.log_prob(laws[name]).sum()
    return laws, density


def model_of(prior, laws):
    known = {} if isinstance(prior, HMMPrior) else {"cell_of_state": prior.cell_of_state}
    return (HMM if isinstance(prior, HMMPrior) else MemoryHMM)(**laws, **known)


def latents(nodes):
    return {name for name, site in nodes.items() if site["type"] == "sample" and not site["is_observed"]}


def log_density(program, laws, prior, **options):
    """Return the log density of the laws and the text, with latents summed out by Pyro."""
    conditioned = poutine.condition(program, data=laws)
    nodes = poutine.trace(conditioned).get_trace(prior, TEXT, **options).nodes
    elbo = TraceEnum_ELBO(max_plate_nesting=1) if {"state_0", "memory_1"} & latents(nodes) else Trace_ELBO()
    loss = elbo.loss(conditioned, lambda *_, **__: None, prior, TEXT, **options)
    return torch.tensor(-loss, dtype=torch.float64)


@FORMS
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_density_is_that_of_text_and_dirichlet_laws(sizes, summed):
    prior, lengths = prior_of(sizes), [4, 3, 0, 2]
    torch.manual_seed(0)
    laws, density = draw(prior)
    want = density + log_likelihood(model_of(prior, laws), TEXT, lengths=lengths).sum()
    agree(log_density(program_of(prior), laws, prior, lengths=lengths, summed=summed), want)


@FORMS
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_density_of_groups_is_that_of_their_texts_and_of_laws_about_the_shared_ones(sizes, summed):
    prior, near = prior_of(sizes), 7.0
    torch.manual_seed(0)
    laws, want = draw(prior)
    of_groups = {name: Dirichlet((near * law).clamp(min=1e-12)).sample((2,)) for name, law in laws.items()}
    for name, law in laws.items():
        want = want + Dirichlet(near * law).log_prob(of_groups[name]).sum()
    for group in range(2):
        model = model_of(prior, {name: law[group] for name, law in of_groups.items()})
        want = want + log_likelihood(model, TEXT[np.array(GROUPS) == group]).sum()
    given = laws | {f"group_{name}": law for name, law in of_groups.items()}
    options = {"groups": GROUPS, "group_concentration": near, "summed": summed}
    agree(log_density(program_of(prior), given, prior, **options), want)


def test_a_prompt_before_a_text_under_a_prior():
    prior, prompt = prior_of((2, 3)), [[0.5, 2.0], [1.0, 0.1]]
    laws, density = draw(prior)
    want = density + log_likelihood(model_of(prior, laws), TEXT, prompt=prompt).sum()
    agree(log_density(hmm_program, laws, prior, prompt=prompt), want)


@FORMS
@pytest.mark.parametrize("sizes", [(2, 3), (2, 3, 2, 1)], ids=str)
def test_pyros_samplers_run(sizes, summed):
    prior, pyro_state = prior_of(sizes), pyro.get_param_store()
    program = program_of(prior)
    pyro.set_rng_seed(0)
    chain = MCMC(NUTS(program, max_plate_nesting=1, max_tree_depth=2), 3, 2, disable_progbar=True)
    chain.run(prior, TEXT, summed=summed)
    draws = chain.get_samples()
    assert {name: tuple(each.shape[1:]) for name, each in draws.items()} == {
        name: tuple(each.shape) for name, each in prior.concentrations.items()
    }
    predicted = Predictive(program, draws)(prior, TEXT, predict=range(4))
    assert predicted["token_4"].shape == (3, 4)
    assert set(predicted["token_4"].flatten().tolist()) <= {0, 1, 2}

    pyro_state.clear()
    seen = poutine.block(program, hide_fn=lambda site: site["infer"].get("enumerate") == "parallel")
    for guide in (AutoNormal(seen), DirichletGuide(prior)):
        elbo = Trace_ELBO() if summed else TraceEnum_ELBO(max_plate_nesting=1)
        svi = SVI(program, guide, pyro.optim.Adam({"lr": 0.01}), elbo)
        losses = [svi.step(prior, TEXT, summed=summed) for _ in range(3)]
        assert np.isfinite(losses).all()
    pyro_state.clear()


def test_a_summed_program_takes_a_plate_of_particles_around_it():
    prior = prior_of((2, 3))
    laws = draw(prior, 5, 1)[0]
    with pyro.plate("particles", 5, dim=-2):
        trace = poutine.trace(poutine.condition(hmm_program, data=laws)).get_trace(prior, TEXT, summed=True)
    trace.compute_log_prob()
    agree(trace.nodes["tokens"]["log_prob"], log_likelihood(model_of(prior, laws), TEXT).squeeze(1))


def test_samplers_run_over_groups():
    prior = prior_of((2, 3))
    options = {"groups": GROUPS, "group_concentration": 5.0, "summed": True}
    pyro.set_rng_seed(0)
    chain = MCMC(NUTS(hmm_program, max_tree_depth=2), 2, 2, disable_progbar=True)
    chain.run(prior, TEXT, **options)
    draws = chain.get_samples()
    assert draws["group_transition"].shape == (2, 2, 2, 2)
    predicted = Predictive(hmm_program, draws)(prior, TEXT, **options | {"summed": False}, predict=[0])
    assert predicted["token_1"].shape == (2, 4)


def test_a_single_state_needs_no_sites():
    prior = prior_of((1, 3))
    pyro.set_rng_seed(0)
    chain = MCMC(NUTS(hmm_program, max_tree_depth=2), 2, 2, disable_progbar=True)
    chain.run(prior, TEXT, summed=True)
    assert list(chain.get_samples()) == ["emission"]
    nodes = poutine.trace(DirichletGuide(prior)).get_trace().stochastic_nodes
    assert nodes == ["emission"]


def test_states_are_inferred_under_a_draw_of_the_parameters():
    prior, n_texts = prior_of((2, 3)), 20_000
    laws, _ = draw(prior)
    program = infer_discrete(poutine.condition(hmm_program, data=laws), first_available_dim=-2, temperature=1)
    pyro.set_rng_seed(0)
    nodes = poutine.trace(program).get_trace(prior, np.tile(TEXT[0], (n_texts, 1))).nodes
    law = posterior(model_of(prior, laws), TEXT[:1]).smoothed[0, 1, 1]
    error = (law * (1 - law) / n_texts).sqrt()
    assert (nodes["state_2"]["value"].double().mean() - law).abs() < 4 * error


def test_counts_are_added_where_the_model_puts_the_states():
    prior = HMMPrior.symmetric(2, 2, concentration=0.5)
    toggling = HMM([1.0, 0.0], [[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
    found = prior.updated(toggling, [[1, 0, 1], [1, -1, -1]])
    agree(found.initial, torch.tensor([2.5, 0.5]).double())
    agree(found.transition, torch.tensor([[0.5, 3.5], [1.5, 0.5]]).double())
    agree(found.emission, torch.tensor([[1.5, 0.5], [0.5, 3.5]]).double())


def test_counts_of_a_memory_are_those_of_its_pairs():
    prior = prior_of((2, 3, 2, 2))
    model = model_of(prior, draw(prior)[0])
    found = prior.updated(model, TEXT)
    for name, dimension in (("initial", 4), ("memory_prior", 8)):  # one H₀ and N cells for each text
        agree((getattr(found, name) - getattr(prior, name)).sum(), torch.tensor(float(dimension)).double())
    agree((found.emission - prior.emission).sum(), torch.tensor(float((TEXT >= 0).sum())).double())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: HMMPrior([1, 0], np.ones((2, 2)), np.ones((2, 3))), r"concentration of initial\[1\]: .*got 0"),
        (lambda: HMMPrior([1, 1], [[1, -1], [1, 1]], np.ones((2, 3))), r"concentration of transition\[0, 1\]"),
        (lambda: HMMPrior([1, np.inf], np.ones((2, 2)), np.ones((2, 3))), r"initial\[1\]: .*number, got inf"),
        (lambda: HMMPrior([1, 1], np.ones((3, 3)), np.ones((2, 3))), "sizes of HMM"),
        (lambda: HMMPrior(np.ones((2, 2)), np.ones((2, 2, 2)), np.ones((2, 2, 3))), "expected a single HMMPrior"),
        (lambda: HMMPrior.symmetric(0, 3), "n_states: expected an integer of at least 1"),
        (lambda: HMMPrior.symmetric(2, 3, concentration=0), r"concentration of initial\[0\]"),
        (lambda: HMMPrior.symmetric(2, 3, concentration="x"), "concentration: expected an array of numbers"),
        (lambda: HMMPrior.symmetric(2, 3, concentration=[1, 2]), "concentration: expected one number"),
        (lambda: MemoryHMMPrior.symmetric([], 2, 3), "cell_of_state: expected integers from 0 on"),
        (lambda: MemoryHMMPrior.symmetric([0, -1], 2, 3), "cell_of_state: expected integers from 0 on"),
        (lambda: MemoryHMMPrior(np.ones((1, 2)), [1], [[1]], [1], np.ones((2, 1, 3))), r"cell_of_state\[0\]"),
        (lambda: DirichletGuide(None), "start of a DirichletGuide: expected an HMMPrior"),
    ],
)
def test_a_prior_that_is_none_is_refused(wrong, message):
    with pytest.raises(InvalidInput, match=message):
        wrong()


PRIOR = HMMPrior.symmetric(2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": GROUPS}, "group_concentration: expected a number above zero, got None"),
        ({"groups": GROUPS, "group_concentration": 0.0}, "group_concentration: expected a number above zero, got 0"),
        ({"groups": GROUPS, "group_concentration": [1.0]}, "group_concentration: expected a number"),
        ({"group_concentration": 2.0}, "group_concentration: expected groups, got none"),
        ({"groups": [0, 1], "group_concentration": 2.0}, r"groups: expected integers of shape \(4,\)"),
        ({"groups": [0.0, 1, 1, 1], "group_concentration": 2.0}, "groups: expected integers"),
        ({"groups": [0, -1, 1, 1], "group_concentration": 2.0}, r"groups\[1\]: expected an integer from 0 on, got -1"),
        ({"summed": True, "predict": [0]}, r"hmm_program\(summed=True\): .*positions to predict"),
        ({"summed": True, "prompt": [[1.0, 1.0]]}, r"hmm_program\(summed=True\): .*a prompt"),
        ({"prompt": [[1.0]]}, r"prompt: expected shape \('L', 2\)"),
    ],
)
def test_arguments_that_do_not_fit_a_prior_are_named(options, message):
    with pytest.raises(InvalidInput, match=message):
        hmm_program(PRIOR, TEXT, **options)


def test_wrong_kinds_of_models_and_priors_are_named():
    model = PRIOR.mean()
    with pytest.raises(InvalidInput, match="groups: expected a prior in place of the model"):
        hmm_program(model, TEXT, groups=GROUPS, group_concentration=1.0)
    with pytest.raises(InvalidInput, match="an HMM, or an HMMPrior, got MemoryHMMPrior"):
        hmm_program(prior_of((2, 3, 2, 1)), TEXT)
    with pytest.raises(InvalidInput, match="a MemoryHMM, or a MemoryHMMPrior, got HMMPrior"):
        memory_program(PRIOR, TEXT)
    with pytest.raises(InvalidInput, match=r"initial of the model: expected shape \(3,\), got shape \(2,\)"):
        HMMPrior.symmetric(3, 3).updated(model, TEXT)
    with pytest.raises(InvalidInput, match="token out of range"):
        hmm_program(PRIOR, [[3]])
