"""Inputs of the wrong kind at public functions, and tensors whose gradients would be lost in silence."""

import copy
import inspect

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import ppl_hmm
from ppl_hmm import HMM, ImpossibleText, InvalidInput, LinearHead, MemoryHMM, OracleLM
from ppl_hmm.inference import queries

HIDDEN, TASK = ppl_hmm.example("aliased")
MEMORY, MEMORY_TASK = ppl_hmm.example("memory")
TEXT = [[0, 1, 2], [1, 1, 0]]
#: State 0 says 0 for ever, state 1 says 1 for ever: no text has both.
DETERMINED = HMM(initial=[0.5, 0.5], transition=np.eye(2), emission=np.eye(2))


@pytest.mark.parametrize(
    "positions",
    [
        [True, False],
        [0, True],
        torch.tensor([True, False, True]),
        np.array([True, False, True]),
        [np.True_],
        {0: "first"},
        {0, 1},
        b"\x00\x01",
    ],
    ids=repr,
)
def test_positions_are_a_list_of_integers(positions):
    with pytest.raises(InvalidInput, match="positions: expected integers, in a list"):
        ppl_hmm.masked_conditionals(HIDDEN, TEXT, positions=positions)


@pytest.mark.parametrize("positions", [[1, 0], (1, 0), range(1, -1, -1), np.array([1, 0]), torch.tensor([1, 0])])
def test_integers_of_any_library_are_positions(positions):
    everywhere = ppl_hmm.masked_conditionals(HIDDEN, TEXT)
    assert torch.equal(ppl_hmm.masked_conditionals(HIDDEN, TEXT, positions=positions), everywhere[:, [1, 0]])


ON_TEXT = {
    ppl_hmm.beliefs: (),
    ppl_hmm.posterior: (),
    ppl_hmm.viterbi: (),
    ppl_hmm.sample_posterior: (2, 0),
    ppl_hmm.smoothed_segments: (),
    queries.initial_posterior: (),
}


@pytest.mark.parametrize("function", ON_TEXT, ids=lambda function: function.__name__)
def test_the_remedy_for_impossible_text_names_options_of_the_function(function):
    with pytest.raises(ImpossibleText, match="sequence 1 is impossible from position 1 on") as error:
        function(DETERMINED, [[0, 0], [0, 1]], *ON_TEXT[function])
    assert ("impossible='mask'" in str(error.value)) == ("impossible" in inspect.signature(function).parameters)


@pytest.mark.parametrize("function", [ppl_hmm.beliefs, ppl_hmm.posterior, ppl_hmm.masked_conditionals, ppl_hmm.viterbi])
def test_errors_name_the_impossible_model_of_a_batch(function):
    mixing = HMM(initial=[0.5, 0.5], transition=np.full((2, 2), 0.5), emission=np.eye(2))
    batch = HMM.stack([mixing, DETERMINED])
    with pytest.raises(ImpossibleText, match="sequence 1 under model 1"):
        function(batch, [[0, 0, 0], [0, 1, 1]])


OF_MODEL = {
    "audit": lambda model: ppl_hmm.audit(model, TASK, TEXT, seed=0),
    "audit_language_model": lambda model: ppl_hmm.audit_language_model(model, TEXT, [0, 1], seed=0),
    "beliefs": lambda model: ppl_hmm.beliefs(model, TEXT),
    "CausalOracleLM": lambda model: ppl_hmm.CausalOracleLM(model),
    "causal_certificate": lambda model: ppl_hmm.causal_certificate(model, TASK),
    "causal_prompt_certificate": lambda model: ppl_hmm.causal_prompt_certificate(model, TASK),
    "channel_prompts": lambda model: ppl_hmm.channel_prompts(model, TASK),
    "constant_certificate": lambda model: ppl_hmm.constant_certificate(model, TASK),
    "constructed_attention": lambda model: ppl_hmm.constructed_attention(model, MEMORY_TASK),
    "chain_certificate": lambda model: ppl_hmm.chain_certificate(model, TASK, 2),
    "check_fit": lambda model: ppl_hmm.check_fit(model, TEXT, n_replicates=2, seed=0),
    "constructed_head": lambda model: ppl_hmm.constructed_head(model, TASK),
    "masks_needed": lambda model: ppl_hmm.masks_needed(model, TASK),
    "constructed_prompt": lambda model: ppl_hmm.constructed_prompt(model, TASK),
    "entropies": lambda model: ppl_hmm.entropies(model),
    "exact_witness": lambda model: ppl_hmm.exact_witness(model, TASK, TEXT),
    "fine_tune": lambda model: ppl_hmm.fine_tune(model, TEXT, [0, 1], learning_rate=1.0, steps=1),
    "fisher_kernel": lambda model: ppl_hmm.fisher_kernel(model, TEXT),
    "fit_prompt": lambda model: ppl_hmm.fit_prompt(model, TEXT, [0, 1], validation=(TEXT, [0, 1]), seed=0),
    "head_certificate": lambda model: ppl_hmm.head_certificate(model, TASK),
    "hmm_program": lambda model: ppl_hmm.hmm_program(model, TEXT),
    "initial_posterior": lambda model: queries.initial_posterior(model, TEXT),
    "latent_posterior": lambda model: ppl_hmm.latent_posterior(model, TASK, TEXT),
    "law_ratio": lambda model: ppl_hmm.law_ratio(model),
    "log_likelihood": lambda model: ppl_hmm.log_likelihood(model, TEXT),
    "masked_conditionals": lambda model: ppl_hmm.masked_conditionals(model, TEXT),
    "masked_features": lambda model: ppl_hmm.masked_features(model, TEXT),
    "memory_certificate": lambda model: ppl_hmm.memory_certificate(model, MEMORY_TASK),
    "memory_posterior": lambda model: ppl_hmm.memory_posterior(model, TEXT),
    "memory_program": lambda model: ppl_hmm.memory_program(model, TEXT),
    "memory_prompt_certificate": lambda model: ppl_hmm.memory_prompt_certificate(model, MEMORY_TASK),
    "next_token_features": lambda model: ppl_hmm.next_token_features(model, TEXT),
    "OracleLM": lambda model: OracleLM(model),
    "mixed_states": lambda model: ppl_hmm.mixed_states(model, 2),
    "pair_law": lambda model: ppl_hmm.pair_law(model, 1),
    "pair_spectrum": lambda model: ppl_hmm.pair_spectrum(model),
    "pairwise_twin": lambda model: ppl_hmm.pairwise_twin(model),
    "position_certificate": lambda model: ppl_hmm.position_certificate(model, TASK),
    "posterior": lambda model: ppl_hmm.posterior(model, TEXT),
    "prefixes": lambda model: ppl_hmm.prefixes(model, 2),
    "probe_features": lambda model: ppl_hmm.probe_features(model, TEXT),
    "posterior_kernel": lambda model: ppl_hmm.posterior_kernel(model, TEXT),
    "prompt_certificate": lambda model: ppl_hmm.prompt_certificate(model, TASK),
    "random_task": lambda model: ppl_hmm.random_task(model, 0, TEXT),
    "refute_prompts": lambda model: ppl_hmm.refute_prompts(model, TASK, TEXT),
    "restricting_prompt": lambda model: ppl_hmm.restricting_prompt(model, 0, [0]),
    "sample": lambda model: ppl_hmm.sample(model, 2, 3, 0),
    "sample_posterior": lambda model: ppl_hmm.sample_posterior(model, TEXT, 2, 0),
    "smallest_half_range": lambda model: ppl_hmm.smallest_half_range(model, TASK),
    "smoothed_segments": lambda model: ppl_hmm.smoothed_segments(model, TEXT),
    "spectra": lambda model: ppl_hmm.spectra(model),
    "train": lambda model: ppl_hmm.train(model, TEXT, steps=1, seed=0),
    "triple_law": lambda model: ppl_hmm.triple_law(model),
    "triple_spectrum": lambda model: ppl_hmm.triple_spectrum(model),
    "triple_views": lambda model: ppl_hmm.triple_views(model),
    "tangent_kernel": lambda model: ppl_hmm.tangent_kernel(model, TEXT),
    "viterbi": lambda model: ppl_hmm.viterbi(model, TEXT),
    "HMM.from_dataset": HMM.from_dataset,
    "HMM.from_discrete_hmm": HMM.from_discrete_hmm,
    "HMM.from_hmmlearn": HMM.from_hmmlearn,
    "HMM.stack": HMM.stack,
    "MemoryHMM.from_dataset": MemoryHMM.from_dataset,
    "validate": ppl_hmm.validate,
}


@pytest.mark.parametrize("name", OF_MODEL)
def test_what_is_no_model_is_refused(name):
    for wrong in (None, "x.nc", {}, 3, [], object()):
        with pytest.raises(InvalidInput):
            OF_MODEL[name](wrong)


def test_every_function_of_a_model_is_among_those():
    first_argument = {
        name: next(iter(inspect.signature(getattr(ppl_hmm, name)).parameters), None)
        for name in ppl_hmm.__all__
        if inspect.isfunction(getattr(ppl_hmm, name))
    }
    says = {"check_language_model"}  # what is wrong, and refuses nothing
    assert {name for name, first in first_argument.items() if first in ("model", "lm")} - says <= OF_MODEL.keys()


@pytest.mark.parametrize("tokens", [None, "x", {}, [[1j, 0]], torch.ones(2, 2, device="meta").long()], ids=repr)
def test_what_is_no_text_is_refused(tokens):
    for function in (*ON_TEXT, ppl_hmm.log_likelihood, ppl_hmm.masked_conditionals, ppl_hmm.hmm_program):
        with pytest.raises(InvalidInput, match="tokens"):
            function(HIDDEN, tokens, *ON_TEXT.get(function, ()))


@pytest.mark.parametrize(("task", "remedy"), [(None, "PosteriorTask"), ("task.nc", "load"), ([[0, 1, 0]], "weights")])
def test_what_is_no_task_is_refused(task, remedy):
    for function in (ppl_hmm.constructed_head, ppl_hmm.latent_posterior):
        with pytest.raises(InvalidInput, match=f"task: expected .*{remedy}"):
            function(HIDDEN, task, *([TEXT] if function is ppl_hmm.latent_posterior else []))


@pytest.mark.parametrize("path", [None, 3, {}], ids=repr)
def test_what_is_no_path_is_refused(path):
    for function in (ppl_hmm.load, ppl_hmm.open_results, lambda path: ppl_hmm.save(HIDDEN, path)):
        with pytest.raises(InvalidInput, match="path of a"):
            function(path)


def test_the_distribution_is_told_how_to_become_a_model():
    with pytest.raises(InvalidInput, match=r"convert it: distribution\.to_hmm\(\)"):
        ppl_hmm.posterior(HIDDEN.to_categorical_hmm(), TEXT)


@pytest.mark.parametrize("lengths", [[1j, 2], np.array([1 + 0j, 2]), torch.tensor([1 + 0j, 2])], ids=repr)
def test_complex_lengths_are_refused(lengths):
    with pytest.raises(InvalidInput, match="lengths: expected integers"):
        ppl_hmm.log_likelihood(HIDDEN, TEXT, lengths=lengths)


@pytest.mark.parametrize("many", [2**41, 2**62, 2**70])
def test_more_draws_than_any_memory_are_refused(many):
    draws = (
        lambda: ppl_hmm.sample_posterior(HIDDEN, TEXT, many, 0),
        lambda: ppl_hmm.sample_posterior(MEMORY, TEXT, many, 0),
        lambda: ppl_hmm.sample(HIDDEN, many, 3, 0),
        lambda: ppl_hmm.sample(MEMORY, 1, many, 0),
    )
    for draw in draws:
        with pytest.raises(InvalidInput, match="at most 1099511627776 numbers at once"):
            draw()


def test_a_batch_is_indexed_along_its_batch_dimensions_alone():
    models = [HIDDEN, HIDDEN, HIDDEN]
    batch = HMM.stack([HMM.stack(models), HMM.stack(models)])
    assert batch[1].batch_shape == (3,)
    assert batch[1, 2].identical(HIDDEN)
    assert batch[:, [2, 0]].batch_shape == (2, 2)
    assert len(list(batch)) == 2
    for index in (slice(None, None, -1), "a", 1.5, (0, 0, 0), (0, 0, slice(0, 2)), np.array([0, 1])[::-1], [5]):
        with pytest.raises(InvalidInput, match="index of a HMM"):
            batch[index]
    with pytest.raises(IndexError):
        batch[2]


@pytest.mark.parametrize("model", [HIDDEN, MEMORY], ids=["HMM", "MemoryHMM"])
def test_a_copy_keeps_the_gradient(model):
    emission = model.emission.clone().requires_grad_()
    fields = {name: getattr(model, name) for name in model.dimensions}
    learned = type(model)(**{**fields, "emission": emission})
    copied = copy.deepcopy({"model": learned})["model"]
    assert copied.identical(learned)
    (of_copy,) = torch.autograd.grad(ppl_hmm.log_likelihood(copied, TEXT).sum(), emission)
    (of_original,) = torch.autograd.grad(ppl_hmm.log_likelihood(learned, TEXT).sum(), emission)
    assert torch.equal(of_copy, of_original)
    assert copy.deepcopy(model).identical(model)


@pytest.mark.parametrize("model", [HIDDEN, MEMORY], ids=["HMM", "MemoryHMM"])
def test_a_model_made_in_inference_mode_takes_gradients_of_prompts(model):
    with torch.inference_mode():
        made = type(model)(**{name: getattr(model, name).clone() for name in model.dimensions})
    shape = (1, 3) if isinstance(model, HMM) else (1, 2, 2)
    prompt = torch.full(shape, 0.5, dtype=torch.float64, requires_grad=True)
    found, expected = (
        torch.autograd.grad(ppl_hmm.log_likelihood(each, TEXT, prompt=prompt).sum(), prompt)[0]
        for each in (made, model)
    )
    assert torch.equal(found, expected)


def test_a_model_made_without_gradients_has_none():
    emission = HIDDEN.emission.clone().requires_grad_()
    with torch.no_grad():
        assert not HMM(HIDDEN.initial, HIDDEN.transition, emission).emission.requires_grad
    assert HMM(HIDDEN.initial, HIDDEN.transition, emission).emission.requires_grad


@pytest.mark.parametrize("field", ["initial", "transition", "emission"])
def test_posteriors_have_no_graph_that_lacks_parameters(field):
    fields = {name: getattr(HIDDEN, name) for name in HIDDEN.dimensions}
    learned = HMM(**{**fields, field: fields[field].clone().requires_grad_()})
    law = queries.initial_posterior(learned, TEXT)
    assert not law.requires_grad
    assert not ppl_hmm.posterior(learned, TEXT).initial.requires_grad
    torch.testing.assert_close(law, ppl_hmm.posterior(HIDDEN, TEXT).initial, rtol=1e-14, atol=0)


CONDITIONALS = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
NAMES = ["a", "b", "c", "d"]


def _frame(rows):
    return pd.DataFrame(CONDITIONALS, index=rows)


def test_heads_refuse_rows_in_another_order():
    reversed_labels = pd.Series([1, 1, 0, 0], index=NAMES[::-1])
    weights = pd.Series([1.0, 1.0, 1.0, 2.0], index=NAMES[::-1])
    labelled = xr.DataArray([1, 1, 0, 0], dims="sequence", coords={"sequence": NAMES[::-1]})
    fitted = LinearHead().fit(_frame(NAMES), [0, 0, 1, 1])
    for labels in (reversed_labels, labelled):
        with pytest.raises(InvalidInput, match="rows of y: expected the order of X, a, b, c, d, got d, c, b, a"):
            LinearHead().fit(_frame(NAMES), labels)
        with pytest.raises(InvalidInput, match="rows of y"):
            fitted.score(_frame(NAMES), labels)
    with pytest.raises(InvalidInput, match="rows of sample_weight"):
        LinearHead().fit(_frame(NAMES), [0, 0, 1, 1], sample_weight=weights)


@pytest.mark.parametrize("rows", [NAMES, [0, 1, 2, 3], ["e", "f", "g", "h"], [7, 7, 8, 8]], ids=str)
def test_heads_take_other_rows_by_position_as_scikit_learn_does(rows):
    plain = LinearHead().fit(CONDITIONALS, [0, 0, 1, 1])
    named = LinearHead().fit(_frame(NAMES), pd.Series([0, 0, 1, 1], index=rows))
    assert np.array_equal(named.coef_, plain.coef_)
    assert named.score(_frame(NAMES), pd.Series([0, 0, 1, 1], index=rows)) == 1
