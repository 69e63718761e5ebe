"""Every public function that takes text takes rows of different lengths, in any kind of list, as masked text."""

import dataclasses
import inspect

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
import xarray as xr

import ppl_hmm
from ppl_hmm import MASK, CausalOracleLM, InvalidInput, OracleLM, Vocabulary
from ppl_hmm.base.records import Record

MODEL, TASK = ppl_hmm.example("aliased")
REMEMBERING, MEMORY_TASK = ppl_hmm.example("memory")
PRIOR = ppl_hmm.HMMPrior.symmetric(MODEL.n_states, MODEL.vocabulary_size)
MEMORY_PRIOR = ppl_hmm.MemoryHMMPrior.symmetric(
    REMEMBERING.cell_of_state, REMEMBERING.n_memory_values, REMEMBERING.vocabulary_size
)
ROWS = [[0, 1, 2, 1], [2, 1], [1, 0, 2], [2, 2, 1, 0], [0, 2, 0]]
LENGTHS = [4, 2, 3, 4, 3]
FILLED = [row + [MASK] * (4 - len(row)) for row in ROWS]
LM, CAUSAL = OracleLM(MODEL), CausalOracleLM(MODEL)
FILTERED = ppl_hmm.beliefs(MODEL, FILLED).filtered


def traced(program):
    def log_prob(text):
        pyro.set_rng_seed(0)
        return pyro.poutine.trace(program).get_trace(text).log_prob_sum()

    return log_prob


TRAINED = {
    "BidirectionalLM": ("conditionals", "encode", "logits", "activations"),
    "TransformerLM": ("conditionals", "encode", "logits", "activations"),
    "CausalGRU": ("next_token_laws", "law_after", "logits", "activations"),
    "CausalTransformer": ("next_token_laws", "law_after", "logits", "activations"),
}


def of_trained(kind, method):
    def read(text):
        if "Transformer" in kind:
            pytest.importorskip("transformers", reason="transformers, of the extra 'lm', is not installed")
        found = getattr(getattr(ppl_hmm, kind)(3, width=4, seed=0), method)(text)
        if method == "encode":
            return found.conditionals(positions=[0, 1])
        return list(found.values()) if method == "activations" else found

    return read


#: Public functions and methods that take text, by name: what each makes of it.
FUNCTIONS = {
    "CausalOracleLM.law_after": CAUSAL.law_after,
    "CausalOracleLM.next_token_laws": CAUSAL.next_token_laws,
    "CategoricalHMM.filter": lambda text: MODEL.to_categorical_hmm().filter(text).logits,
    "CategoricalHMM.initial_posterior": MODEL.to_categorical_hmm().initial_posterior,
    "CategoricalHMM.log_prob": MODEL.to_categorical_hmm().log_prob,
    "CategoricalHMM.sample_posterior": lambda text: MODEL.to_categorical_hmm().sample_posterior(text, 2, 0),
    "CategoricalHMM.smooth": MODEL.to_categorical_hmm().smooth,
    "CategoricalHMM.viterbi": MODEL.to_categorical_hmm().viterbi,
    "ChannelPrompts.labels": ppl_hmm.channel_prompts(MODEL, TASK).labels,
    "ChannelPrompts.log_likelihoods": ppl_hmm.channel_prompts(MODEL, TASK).log_likelihoods,
    "ChannelPrompts.sure": ppl_hmm.channel_prompts(MODEL, TASK).sure,
    "Certificate.sign_agreement": ppl_hmm.head_certificate(MODEL, TASK).sign_agreement,
    "MemoryCertificate.coverage": ppl_hmm.memory_certificate(REMEMBERING, MEMORY_TASK).coverage,
    "MemoryCertificate.sign_agreement": ppl_hmm.memory_certificate(REMEMBERING, MEMORY_TASK).sign_agreement,
    "MemoryTask.posterior": lambda text: MEMORY_TASK.posterior(REMEMBERING, text),
    "MemoryTask.prior": lambda text: MEMORY_TASK.prior(REMEMBERING, text),
    "OracleLM.conditionals": LM.conditionals,
    "OracleLM.encode": lambda text: LM.encode(text).conditionals(positions=[0, 1]),
    "PosteriorTask.posterior": lambda text: dataclasses.replace(TASK, position=-1).posterior(MODEL, text),
    "PosteriorTask.prior": lambda text: dataclasses.replace(TASK, position=-1).prior(MODEL, text),
    "Vocabulary.decode": Vocabulary(("a", "b", "c")).decode,
    "audit": lambda text: ppl_hmm.audit(MODEL, TASK, text, seed=0, n_prompt_tokens=0),
    "belief_probe": lambda text: ppl_hmm.belief_probe(FILTERED, FILTERED, MODEL, text, n_folds=3, controls={}),
    "beliefs": lambda text: ppl_hmm.beliefs(MODEL, text, suffix=[1]),
    "audit_features": lambda text: ppl_hmm.audit_features(
        np.random.default_rng(0).normal(size=(40, 2)), [0, 1, 0, 1, 0] * 8, tokens=text * 8, seed=0
    )["diagnostics/learned/accuracy"].values,
    "audit_language_model": lambda text: ppl_hmm.audit_language_model(
        LM, text * 8, [0, 1, 0, 1, 0] * 8, n_prompt_tokens=0, seed=0
    )["features/features"].values,
    "causal_certificate": lambda text: ppl_hmm.causal_certificate(MODEL, TASK, tokens=text).reasons,
    "check_fit": lambda text: ppl_hmm.check_fit(MODEL, text, n_replicates=2, seed=0),
    "document_class": lambda text: ppl_hmm.document_class(text, [0, 1, 0, 1, 0])(MODEL).weights,
    "exact_witness": lambda text: ppl_hmm.exact_witness(MODEL, TASK, text),
    "fisher_kernel": lambda text: ppl_hmm.fisher_kernel(MODEL, text),
    "fit_bayes": lambda text: ppl_hmm.fit_bayes(text, 2, method="gibbs", chains=1, draws=3, tune=1, seed=0),
    "fit_em": lambda text: ppl_hmm.fit_em(text, 2, restarts=2, max_iterations=3, seed=0).model,
    "fit_prompt": lambda text: (
        ppl_hmm.fit_prompt(LM, text, [0, 1, 0, 1, 0], validation=(text, [0, 1, 0, 1, 0]), restarts=1, seed=0).prompt
    ),
    "HMMPrior.updated": lambda text: PRIOR.updated(MODEL, text),
    "hmm_program": traced(lambda text: ppl_hmm.hmm_program(MODEL, text)),
    "latent_posterior": lambda text: ppl_hmm.latent_posterior(MODEL, TASK, text),
    "log_likelihood": lambda text: ppl_hmm.log_likelihood(MODEL, text),
    "masked_conditionals": lambda text: ppl_hmm.masked_conditionals(MODEL, text),
    "masked_features": lambda text: ppl_hmm.masked_features(LM, text),
    "MemoryHMMPrior.updated": lambda text: MEMORY_PRIOR.updated(REMEMBERING, text),
    "memory_posterior": lambda text: ppl_hmm.memory_posterior(REMEMBERING, text),
    "memory_program": traced(lambda text: ppl_hmm.memory_program(REMEMBERING, text)),
    "next_token_features": lambda text: ppl_hmm.next_token_features(CAUSAL, text, [0]),
    "posterior_kernel": lambda text: ppl_hmm.posterior_kernel(MODEL, text),
    "posterior": lambda text: ppl_hmm.posterior(MODEL, text),
    "probe_features": lambda text: ppl_hmm.probe_features(LM, text),
    "prompt_certificate": lambda text: ppl_hmm.prompt_certificate(MODEL, TASK, text).reasons,
    "random_task": lambda text: ppl_hmm.random_task(MODEL, 0, text),
    "refute_prompts": lambda text: ppl_hmm.refute_prompts(MODEL, TASK, text).verdict,
    "robustness": lambda text: ppl_hmm.robustness(ppl_hmm.prompt_certificate(MODEL, TASK), text),
    "sample_posterior": lambda text: ppl_hmm.sample_posterior(MODEL, text, 3, 0),
    "smoothed_segments": lambda text: [each.smoothed for each in ppl_hmm.smoothed_segments(MODEL, text, 2)],
    "viterbi": lambda text: ppl_hmm.viterbi(MODEL, text, lengths=None if text is ROWS else LENGTHS),
    **{f"{kind}.{method}": of_trained(kind, method) for kind, methods in TRAINED.items() for method in methods},
}
ABSTRACT = {"CausalLM.law_after", "CausalLM.next_token_laws", "MaskedLM.conditionals", "MaskedLM.encode"}


def takes_text(function):
    try:
        return callable(function) and {"tokens", "texts"} & set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False


def test_no_public_function_is_left_out():
    found = set()
    for name in ppl_hmm.__all__:
        public = getattr(ppl_hmm, name)
        members = inspect.getmembers(public) if inspect.isclass(public) else []
        found |= {f"{name}.{each}" for each, member in members if each[0] != "_" and takes_text(member)}
        found |= {name} if not inspect.isclass(public) and takes_text(public) else set()
    writes = {"Vocabulary.encode", "Vocabulary.from_text", "fit_corpus"}  # take strings
    others = {"next_token_class", "check_language_model"}  # take tokens of a class, and texts of one length
    assert found - ABSTRACT - writes - others <= FUNCTIONS.keys()


def assert_same(found, wanted, ends):
    """Compare results field by field, predictive laws past an end included."""
    assert type(found) is type(wanted)
    if isinstance(found, torch.Tensor):
        assert torch.equal(found.nan_to_num(-7), wanted.nan_to_num(-7))
    elif isinstance(found, xr.DataTree):
        for node in found.subtree:
            xr.testing.assert_equal(node.to_dataset(inherit=False), wanted[node.path].to_dataset(inherit=False))
    elif isinstance(found, (list, tuple)):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other, ends)
    elif isinstance(found, Record):
        assert found.identical(wanted)
    elif dataclasses.is_dataclass(found):
        for name in vars(found).keys() - ends:
            assert_same(vars(found)[name], vars(wanted)[name], ends)
    else:
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_list_of_rows_is_masked_text(name):
    assert_same(FUNCTIONS[name](ROWS), FUNCTIONS[name](FILLED), ends={"ends", "lengths", "present"})


KINDS = {
    "tuples": tuple(map(tuple, ROWS)),
    "arrays": [np.array(row, dtype=np.int16) for row in ROWS],
    "tensors": [torch.tensor(row) for row in ROWS],
    "array of objects": np.array(ROWS, dtype=object),
    "series of lists": pd.Series(ROWS),
    "series": [pd.Series(row) for row in ROWS],
    "missing": [[*row[:1], None, *row[2:]] for row in ROWS],
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_row(kind):
    filled = [[row[0], MASK, *row[2:]] for row in FILLED] if kind == "missing" else FILLED
    found, wanted = ppl_hmm.posterior(MODEL, KINDS[kind]), ppl_hmm.posterior(MODEL, filled, lengths=LENGTHS)
    assert torch.equal(found.initial, wanted.initial)


def test_an_empty_row_tells_nothing():
    found = ppl_hmm.posterior(MODEL, [[0, 1], []])
    assert torch.allclose(found.initial[1], MODEL.initial)


def test_batches_of_models_share_rows():
    batch = ppl_hmm.HMM.stack([MODEL, MODEL])
    found = ppl_hmm.posterior(batch, ROWS)
    assert torch.equal(found.initial[1], ppl_hmm.posterior(MODEL, ROWS).initial)


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1), (-1,)])
def test_texts_one_after_another_are_refused_with_the_line_that_splits_them(shape):
    texts = np.concatenate([np.array(row) for row in ROWS]).reshape(shape)
    with pytest.raises(InvalidInput, match="split the text") as refused:
        ppl_hmm.posterior(MODEL, texts, lengths=LENGTHS)
    line = refused.value.args[3].partition(": ")[2]
    assert_same(eval(line, {"np": np, "X": texts, "lengths": LENGTHS}), [np.array(row) for row in ROWS], set())
