"""On a GPU trained language models learn and give the CPU's laws. Only run when asked for by the marker ``gpu``."""

import copy

import pytest
import torch
import xarray as xr

import ppl_hmm
from ppl_hmm import (
    BidirectionalLM,
    CausalGRU,
    CausalTransformer,
    TransformerLM,
    belief_probe,
    beliefs,
    check_language_model,
    example,
    fit_prompt,
    load_language_model,
    masked_features,
    posterior,
    probe_features,
    sample,
    train,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
DEVICE = "cuda"
MODEL, TASK = example("aliased")
V = MODEL.vocabulary_size
TEXT = sample(MODEL, 60, 9, seed=1).tokens
MASKED = {"bidirectional": BidirectionalLM, "transformer": TransformerLM}
CAUSAL = {"causal gru": CausalGRU, "causal transformer": CausalTransformer}
each_kind = pytest.mark.parametrize("kind", [*MASKED, *CAUSAL])
each_masked = pytest.mark.parametrize("kind", list(MASKED))


def trained(kind, objective="tokens", **options):
    """Return a language model after a little training on the GPU, and its twin on the CPU."""
    untrained = {**MASKED, **CAUSAL}[kind](V, width=16, seed=0).to(DEVICE)
    plan = {"steps": 60, "batch_size": 32, "length": 10, "seed": 0}
    found = train(untrained, MODEL, objective=objective, **plan, **options)
    return found, copy.deepcopy(found.lm).to("cpu")


@each_kind
@pytest.mark.parametrize("objective", ["tokens", "exact", "quad"])
def test_training_stays_there_and_learns(kind, objective):
    found, twin = trained(kind, objective)
    assert {each.device.type for each in found.lm.parameters()} == {DEVICE}
    assert found.log["excess"][-1] < found.log["excess"][0]
    torch.testing.assert_close(found.lm.logits(TEXT).cpu(), twin.logits(TEXT), atol=1e-4, rtol=1e-4)


@each_kind
def test_what_is_saved_is_read_anywhere(kind, tmp_path):
    found, twin = trained(kind)
    found.lm.save(tmp_path / "lm")
    torch.testing.assert_close(load_language_model(tmp_path / "lm").logits(TEXT), twin.logits(TEXT))


@each_kind
def test_training_goes_on_from_a_checkpoint(kind, tmp_path):
    class Stopped(Exception):
        pass

    def stop(done, of):
        if done == 30:
            raise Stopped

    with pytest.raises(Stopped):
        trained(kind, out=tmp_path, progress=stop)
    resumed, whole = trained(kind, out=tmp_path)[0], trained(kind)[0]
    torch.testing.assert_close(resumed.lm.logits(TEXT), whole.lm.logits(TEXT), atol=1e-2, rtol=1e-2)


@each_masked
def test_heads_and_prompts(kind):
    found, twin = trained(kind)
    check_language_model(found.lm)
    here, there = probe_features(twin, TEXT), probe_features(found.lm, TEXT)
    torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=1e-4)
    conditionals = masked_features(found.lm, TEXT).conditionals
    torch.testing.assert_close(conditionals.cpu(), masked_features(twin, TEXT).conditionals, atol=1e-4, rtol=1e-4)
    labels = TASK.labels(posterior(MODEL, TEXT))
    options = {"validation": (TEXT, labels), "restarts": 2, "steps": 5, "seed": 0}
    fits = [fit_prompt(lm, TEXT, labels, **options) for lm in (found.lm, twin)]
    torch.testing.assert_close(fits[0].history[0].cpu(), fits[1].history[0], atol=1e-3, rtol=1e-3)
    assert abs(fits[0].validation_score - fits[1].validation_score) <= 0.1


@pytest.mark.parametrize("kind", list(CAUSAL))
def test_laws_and_activations_of_causal_models(kind):
    found, twin = trained(kind)
    check_language_model(found.lm)
    prompt = torch.ones(2, 16)
    for ask in (
        lambda lm: lm.next_token_laws(TEXT, prompt=prompt),
        lambda lm: lm.law_after(TEXT, suffix=[0, 1]),
        lambda lm: lm.law_after(TEXT, prompt=prompt, suffix=prompt),
    ):
        torch.testing.assert_close(ask(found.lm).cpu(), ask(twin), atol=1e-4, rtol=1e-4)
    after_tokens = beliefs(MODEL, TEXT).filtered[:, 1:]
    found_there = belief_probe(found.lm.activations(TEXT), after_tokens, MODEL, TEXT, seed=0)
    found_here = belief_probe(twin.activations(TEXT), after_tokens, MODEL, TEXT, seed=0)
    xr.testing.assert_allclose(found_there["layers/r2"], found_here["layers/r2"], atol=0.01)


def test_the_experiment(tmp_path):
    little = {"length": 8, "n_train": 60, "n_validation": 30, "n_test": 40, "restarts": 1, "prompt_steps": 3}
    little |= {"budget": 300, "network": (32, 1), "device": DEVICE}
    for kind in ("gru", "transformer"):
        tree = ppl_hmm.head_vs_prompt_trained([4], 1, tmp_path / kind, workers=1, language_model=kind, **little)
        assert 0 < tree["results/total_variation"].item() < 0.3
