"""Recurrent language models: leave-one-out, cached prompts, ragged text, the tools of exact ones, bad input."""

import numpy as np
import pytest
import torch

from ppl_hmm import (
    MASK,
    AttentionHead,
    BidirectionalLM,
    CausalGRU,
    CausalLM,
    ForeignFile,
    InvalidInput,
    LinearHead,
    MaskedLM,
    OracleLM,
    belief_probe,
    beliefs,
    example,
    fit_prompt,
    load_language_model,
    masked_features,
    next_token_features,
    posterior,
    probe_features,
    sample,
)

V, WIDTH = 4, 6
LM, CAUSAL = BidirectionalLM(V, width=WIDTH, layers=2, seed=0), CausalGRU(V, width=WIDTH, layers=2, seed=0)
TEXT = torch.randint(V, (5, 7), generator=torch.Generator().manual_seed(0))
PROMPT = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1))


def test_they_satisfy_the_protocols():
    assert isinstance(LM, MaskedLM)
    assert isinstance(CAUSAL, CausalLM)
    for lm in (LM, CAUSAL):
        assert (lm.vocabulary_size, lm.batch_shape, lm.prompt_shape, lm.prompt_constraint) == (V, (), (WIDTH,), "real")


def test_a_token_is_left_out_of_its_own_conditional():
    whole = LM.conditionals(TEXT)
    torch.testing.assert_close(whole.sum(-1), torch.ones(5, 7))
    for position in range(7):
        hidden = TEXT.clone()
        hidden[:, position] = MASK
        alone = LM.conditionals(hidden, positions=[position])
        torch.testing.assert_close(alone[:, 0], whole[:, position], rtol=0, atol=1e-6)
    torch.testing.assert_close(LM.laws(LM.logits(TEXT)), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("positions", [[0], [3, 1], None])
def test_encoded_text_with_a_prompt_is_the_whole_pass(positions):
    prompts = torch.stack([PROMPT, 2 * PROMPT])
    many = LM.encode(TEXT).conditionals(prompts, positions)
    for prompt, found in zip(prompts, many, strict=True):
        one = LM.conditionals(TEXT, prompt=prompt, positions=positions)
        # The whole pass: embeddings of prompt and text through both streams.
        inputs = torch.cat([prompt.expand(5, -1, -1), LM.embedded(TEXT)], dim=1)
        left, right = LM.left(inputs)[-1][:, 3:-1], LM.right(inputs.flip(1))[-1][:, :-1].flip(1)[:, 3:]
        expected = LM.laws(LM.join(left, right))[:, slice(None) if positions is None else positions]
        torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-5)
        torch.testing.assert_close(one, found, rtol=0, atol=1e-6)


def test_prompts_have_gradients_and_texts_have_none():
    assert not LM.conditionals(TEXT).requires_grad
    assert not CAUSAL.law_after(TEXT).requires_grad
    for read in (lambda prompt: LM.encode(TEXT).conditionals(prompt, [0]), lambda p: CAUSAL.law_after(TEXT, suffix=p)):
        prompt = PROMPT.double().requires_grad_()
        read(prompt)[..., 0].sum().backward()
        assert prompt.grad.abs().sum() > 0


def test_what_lies_past_the_end_of_a_text_changes_nothing():
    lengths = [7, 3, 5, 1, 2]
    ragged, law = LM.conditionals(TEXT, lengths=lengths), CAUSAL.law_after(TEXT, lengths=lengths, suffix=[1, 2])
    for number, length in enumerate(lengths):
        own = TEXT[number : number + 1, :length]
        torch.testing.assert_close(ragged[number : number + 1, :length], LM.conditionals(own), rtol=0, atol=1e-6)
        torch.testing.assert_close(law[number : number + 1], CAUSAL.law_after(own, suffix=[1, 2]), rtol=0, atol=1e-6)


def test_causal_laws_of_prefixes_and_suffixes_agree():
    laws = CAUSAL.next_token_laws(TEXT, prompt=PROMPT)
    assert laws.shape == (5, 8, V)
    torch.testing.assert_close(CAUSAL.law_after(TEXT, prompt=PROMPT), laws[:, -1])
    torch.testing.assert_close(CAUSAL.law_after(TEXT[:, :4], prompt=PROMPT), laws[:, 4])
    suffixed = CAUSAL.law_after(TEXT[:, :0], suffix=TEXT[0].tolist())
    torch.testing.assert_close(suffixed[0], CAUSAL.next_token_laws(TEXT)[0, -1])
    soft = CAUSAL.embedded(torch.tensor([1, 2])).detach()
    torch.testing.assert_close(CAUSAL.law_after(TEXT, suffix=soft), CAUSAL.law_after(TEXT, suffix=[1, 2]))
    assert CAUSAL.logits(TEXT).shape == (5, 7, V)
    torch.testing.assert_close(CAUSAL.laws(CAUSAL.logits(TEXT)), CAUSAL.next_token_laws(TEXT)[:, :-1])


def test_the_tools_of_exact_language_models_run_unchanged():
    model, task = example("aliased")
    text = sample(model, 60, 8, seed=0).tokens
    labels = task.labels(posterior(model, text)).numpy()
    lm = BidirectionalLM(model.vocabulary_size, width=8, seed=0)
    features = probe_features(lm, text)
    LinearHead().fit(features, labels)
    AttentionHead().fit(masked_features(lm, text), labels)
    options = {"validation": (text, labels), "restarts": 2, "seed": 0, "prompt_length": 2}
    fit = fit_prompt(lm, text, labels, steps=5, training_texts=40, learning_rate=0.1, **options)
    assert fit.prompt.rows.shape == (2, 8)
    assert fit.history.shape == (5, 2)
    assert probe_features(lm, text, n_masks=3, prompt=fit.prompt).shape == (60, 3, model.vocabulary_size)
    assert next_token_features(CausalGRU(model.vocabulary_size, width=8, seed=0), text, [1]).shape == features.shape


def test_activations_are_probed_for_beliefs():
    model, _ = example("aliased")
    text = sample(model, 20, 4, seed=0).tokens
    layers = CausalGRU(model.vocabulary_size, width=4, layers=2, seed=0).activations(text)
    assert list(layers) == ["layer 1", "layer 2"]
    assert {each.shape for each in layers.values()} == {(20, 4, 4)}
    options = {"n_folds": 3, "n_raw": 2, "order": 1, "n_future": 1}
    tree = belief_probe(layers, beliefs(model, text).filtered[:, 1:], model, text, **options)
    assert np.isfinite(tree["layers/r2"]).all()
    assert set(LM.activations(TEXT)) == {"left 1", "left 2", "right 1", "right 2", "joint"}
    assert {each.shape for each in LM.activations(TEXT).values()} == {(5, 7, WIDTH)}


@pytest.mark.parametrize("lm", [LM, CAUSAL])
def test_saved_models_come_back(lm, tmp_path):
    lm.save(tmp_path / "lm")
    found = load_language_model(tmp_path / "lm")
    assert type(found) is type(lm)
    assert all(torch.equal(one, two) for one, two in zip(found.parameters(), lm.parameters(), strict=True))
    with pytest.raises(ForeignFile, match="expected a new or an empty one"):
        lm.save(tmp_path / "lm")
    weights = tmp_path / "lm" / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-20])
    with pytest.raises(ForeignFile, match=r"weights\.safetensors: expected weights in safetensors") as error:
        load_language_model(tmp_path / "lm")
    assert "\n" not in str(error.value)
    other = BidirectionalLM(V, width=5, seed=0)
    other.save(tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(ForeignFile, match=rf"expected the weights of a {type(lm).__name__} of width 6, got "):
        load_language_model(tmp_path / "lm")


def test_what_is_no_language_model_is_refused(tmp_path):
    with pytest.raises(ForeignFile, match="No such file"):
        load_language_model(tmp_path / "nowhere")
    file = tmp_path / "language_model.json"
    for content, message in (("{", "no JSON"), ("[]", "got none"), ('{"format": "other"}', "got none")):
        file.write_text(content)
        with pytest.raises(ForeignFile, match=message):
            load_language_model(tmp_path)
    file.write_text('{"format": "ppl_hmm language model", "kind": "CausalGRU", "configuration": {"width": -1}}')
    with pytest.raises(ForeignFile, match="sizes of a CausalGRU"):
        load_language_model(tmp_path)


def test_arguments_are_checked():
    for wrong in ({"vocabulary_size": 0}, {"vocabulary_size": 4, "width": 0}, {"vocabulary_size": 4, "layers": 0}):
        for kind in (BidirectionalLM, CausalGRU):
            with pytest.raises(InvalidInput, match="expected an integer of at least 1"):
                kind(**wrong, seed=0)
    with pytest.raises(InvalidInput, match="token out of range"):
        LM.conditionals([[0, V]])
    with pytest.raises(InvalidInput, match=r"prompt: expected shape \('L', 6\)"):
        LM.conditionals(TEXT, prompt=torch.zeros(1, 5))
    with pytest.raises(InvalidInput, match="suffix"):
        CAUSAL.law_after(TEXT, suffix=torch.zeros(1, 5))
    with pytest.raises(InvalidInput, match="seed"):
        BidirectionalLM(V, seed=-1)


def test_parameters_follow_from_the_seed_and_the_width_from_the_states():
    before = torch.get_rng_state()
    same = BidirectionalLM(V, width=WIDTH, layers=2, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, two) for one, two in zip(same.parameters(), LM.parameters(), strict=True))
    assert [BidirectionalLM(V, n, seed=0).width for n in (None, 8, 9)] == [64, 64, 128]


def test_the_oracle_takes_no_embeddings():
    model, _ = example("aliased")
    with pytest.raises(InvalidInput, match="non-negative likelihood"):
        OracleLM(model).conditionals([[0]], prompt=-torch.ones(1, model.n_states))
