"""Transformers: conditionals hide their own token, prompts and ragged text, training, files, the extra ``lm``."""

import importlib.util
import sys

import pytest
import torch

from ppl_hmm import (
    MASK,
    BidirectionalLM,
    CausalLM,
    CausalTransformer,
    InvalidInput,
    MaskedLM,
    TransformerLM,
    example,
    fit_prompt,
    load_language_model,
    masked_features,
    posterior,
    probe_features,
    sample,
    train,
)
from ppl_hmm.base.randomness import generator

V, WIDTH = 4, 8
SIZES = {"width": WIDTH, "layers": 2, "heads": 2, "longest": 32, "seed": 0}
TEXT = torch.randint(V, (3, 5), generator=torch.Generator().manual_seed(0))
PROMPT = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1))

with_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers, of the extra 'lm', is not installed"
)


@pytest.fixture(scope="module")
def masked():
    return TransformerLM(V, **SIZES)


@pytest.fixture(scope="module")
def causal():
    return CausalTransformer(V, **SIZES)


@with_transformers
def test_a_token_is_hidden_from_its_own_conditional(masked):
    assert isinstance(masked, MaskedLM)
    assert masked.prompt_shape == (WIDTH,)
    whole = masked.conditionals(TEXT)
    torch.testing.assert_close(whole.sum(-1), torch.ones(3, 5))
    for position in range(5):
        other = TEXT.clone()
        other[:, position] = (other[:, position] + 1) % V
        assert torch.equal(masked.conditionals(other, positions=[position])[:, 0], whole[:, position])
    hidden = TEXT.clone()
    hidden[:, 2] = MASK
    torch.testing.assert_close(masked.laws(masked.logits(hidden))[:, 2].detach(), whole[:, 2], rtol=0, atol=1e-6)


@with_transformers
def test_encoded_text_with_a_prompt_is_the_whole_pass(masked):
    prompts = torch.stack([PROMPT, 2 * PROMPT]).requires_grad_()
    found = masked.encode(TEXT).conditionals(prompts, [0, 3])
    for number, prompt in enumerate(prompts.detach()):
        torch.testing.assert_close(found[number].detach(), masked.conditionals(TEXT, prompt=prompt, positions=[0, 3]))
        hidden = TEXT.clone()
        hidden[:, 3] = MASK
        inputs = torch.cat([prompt.expand(3, -1, -1), masked.embedded(hidden)], dim=1)
        whole = masked.laws(masked.network(inputs_embeds=inputs).logits[:, 6, :V]).detach()
        torch.testing.assert_close(found[number, :, 1].detach(), whole, rtol=0, atol=1e-5)
    found[..., 0].sum().backward()
    assert prompts.grad.abs().sum() > 0
    assert not masked.conditionals(TEXT, positions=[0]).requires_grad


@with_transformers
def test_what_lies_past_the_end_of_a_text_changes_nothing(masked, causal):
    lengths = [5, 2, 3]
    ragged, law = masked.conditionals(TEXT, lengths=lengths), causal.law_after(TEXT, lengths=lengths, suffix=[1, 2])
    for number, length in enumerate(lengths):
        own, one = TEXT[number : number + 1, :length], slice(number, number + 1)
        torch.testing.assert_close(ragged[one, :length], masked.conditionals(own), rtol=0, atol=1e-6)
        torch.testing.assert_close(law[one], causal.law_after(own, suffix=[1, 2]), rtol=0, atol=1e-6)


@with_transformers
def test_causal_laws_do_not_look_ahead(causal):
    assert isinstance(causal, CausalLM)
    laws = causal.next_token_laws(TEXT, prompt=PROMPT)
    assert laws.shape == (3, 6, V)
    torch.testing.assert_close(causal.law_after(TEXT[:, :2], prompt=PROMPT), laws[:, 2], rtol=0, atol=1e-6)
    torch.testing.assert_close(causal.laws(causal.logits(TEXT)), causal.next_token_laws(TEXT)[:, :-1])
    assert {name: each.shape for name, each in causal.activations(TEXT).items()} == {
        "layer 1": (3, 5, WIDTH),
        "layer 2": (3, 5, WIDTH),
    }


@with_transformers
def test_they_are_trained_saved_and_prompted(masked, causal, tmp_path):
    model, task = example("aliased")
    text = sample(model, 20, 6, seed=0).tokens
    for kind, objective in ((TransformerLM, "tokens"), (CausalTransformer, "exact")):
        lm = kind(model.vocabulary_size, **SIZES)
        found = train(lm, model, objective=objective, steps=20, batch_size=8, length=6, seed=0)
        assert found.log["excess"][-1] < found.log["excess"][0]
        assert found.log.attrs["warm_up"] == 0.1
        found.lm.save(tmp_path / kind.__name__)
        loaded = load_language_model(tmp_path / kind.__name__)
        assert torch.equal(loaded.logits(text), found.lm.logits(text))
        whole = train(lm, model, steps=4, batch_size=4, length=6, seed=0, out=tmp_path / f"{kind.__name__} training")
        assert train(lm, model, steps=4, batch_size=4, length=6, seed=0).log.identical(whole.log)
        assert train(lm, model, steps=1, batch_size=4, length=6, seed=0, warm_up=0).log.attrs["warm_up"] == 0
    lm = TransformerLM(model.vocabulary_size, **SIZES)
    labels = task.labels(posterior(model, text)).numpy()
    options = {"validation": (text, labels), "restarts": 2, "seed": 0, "steps": 3, "training_texts": 10}
    fit = fit_prompt(lm, text, labels, **options)
    assert probe_features(lm, text, prompt=fit.prompt).shape == (20, model.vocabulary_size)
    assert masked_features(lm, text).shape == (20, 6, model.vocabulary_size)


@with_transformers
def test_masks_stand_where_heads_read(masked):
    read, predicted = masked.example(TEXT.repeat(200, 1), torch.Generator().manual_seed(0))
    assert ((read == MASK) == predicted).all()
    assert (predicted[:, :5].any(-1)).all()
    assert torch.equal(read[~predicted], TEXT.repeat(200, 1)[~predicted])


@with_transformers
def test_sizes_are_checked(masked, causal):
    for kind in (TransformerLM, CausalTransformer):
        with pytest.raises(InvalidInput, match="expected a multiple of its heads, got width 9 with 2 heads"):
            kind(V, width=9, seed=0)
        with pytest.raises(InvalidInput, match="layers: expected an integer of at least 1"):
            kind(V, layers=0, seed=0)
    long = torch.zeros(1, 33, dtype=torch.int64)
    for read in (masked.conditionals, causal.next_token_laws):
        with pytest.raises(InvalidInput, match="expected at most 32 tokens, got 33; build it with longest=33"):
            read(long)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for kind in (TransformerLM, CausalTransformer):
        with pytest.raises(InvalidInput, match=r"the extra 'lm' installed, got no module 'transformers'; pip install"):
            kind(V, seed=0)
    with pytest.raises(InvalidInput, match="got no module 'safetensors'; pip install"):
        BidirectionalLM(V, width=4, seed=0).save(tmp_path / "lm")


@with_transformers
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("objective", ["tokens", "quad"])
def test_a_token_of_each_text_is_predicted_wherever_its_masks_are(masked, seed, objective):
    text = torch.randint(V, (20, 8), generator=generator(seed, "text"))
    text[:10, :5], text[10:, 0], text[0] = MASK, MASK, MASK
    predicted = masked.example(text, generator(seed, "masks")).predicted
    assert not predicted[text == MASK].any()
    assert predicted.any(-1).tolist() == [False] + [True] * 19
    late = torch.full((20, 30), MASK)
    late[:, 25:] = text[:, 5:8].repeat(1, 2)[:, :5]
    found = train(masked, late, objective=objective, steps=10, batch_size=4, lengthening=1, seed=seed)
    assert found.log.loss.notnull().all()
    assert all(each.isfinite().all() for each in found.lm.parameters())
