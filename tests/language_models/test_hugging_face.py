"""Hugging Face models under our protocols, against direct calls of them; tiny and random, nothing downloaded."""

import sys

import pytest
import torch

from ppl_hmm import (
    InvalidInput,
    audit_language_model,
    check_language_model,
    from_causal_lm,
    from_masked_lm,
    next_token_features,
    probe_features,
)

transformers = pytest.importorskip("transformers", reason="the extra 'lm' is not installed: no transformers")
MASK_ID, CLS, SEP, WORDS = 4, 2, 3, [5, 7, 6]
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
OPTIONS = {"mask_token_id": MASK_ID, "begin": [CLS], "end": [SEP]}
TEXTS = [[8, 5, 9, 6], [7, 7, 8, 5]]


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=10, max_position_embeddings=12, initializer_range=1.0, **SIZES)
    return transformers.BertForMaskedLM(config)


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=10, n_embd=8, n_layer=1, n_head=2, initializer_range=1.0, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def scores(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def test_adapters_meet_the_protocols(bert, gpt):
    config = transformers.RobertaConfig(vocab_size=10, initializer_range=1.0, pad_token_id=1, **SIZES)
    for lm in (
        from_masked_lm(bert, label_words=WORDS, **OPTIONS),
        from_masked_lm(transformers.RobertaForMaskedLM(config), **OPTIONS),
        from_causal_lm(gpt, label_words=WORDS),
    ):
        assert check_language_model(lm).passed, str(check_language_model(lm))


def test_masked_laws_are_those_of_the_model(bert):
    lm = from_masked_lm(bert, label_words=WORDS, **OPTIONS)
    found = lm.conditionals([[8, 5, 9, 6], [7, 7, 8]])  # the second text is shorter
    for i in range(4):
        ids = [CLS, *[MASK_ID if i == j else token for j, token in enumerate(TEXTS[0])], SEP]
        torch.testing.assert_close(found[0, i], scores(bert, ids)[1 + i, WORDS].softmax(-1))
    for i in range(3):
        ids = [CLS, *[MASK_ID if i == j else token for j, token in enumerate([7, 7, 8])], SEP]
        torch.testing.assert_close(found[1, i], scores(bert, ids)[1 + i, WORDS].softmax(-1))
    torch.testing.assert_close(found[1, 3], scores(bert, [CLS, 7, 7, 8, MASK_ID, SEP])[4, WORDS].softmax(-1))
    whole = probe_features(from_masked_lm(bert, **OPTIONS), TEXTS)
    torch.testing.assert_close(whole[0], scores(bert, [CLS, MASK_ID, *TEXTS[0], SEP])[1].softmax(-1))


def test_causal_laws_are_those_of_the_model(gpt):
    lm = from_causal_lm(gpt, label_words=WORDS)
    every = lm.next_token_laws(TEXTS)
    for text, own in zip(TEXTS, every, strict=True):
        torch.testing.assert_close(own, scores(gpt, [0, *text])[:, WORDS].softmax(-1))
    ragged = next_token_features(lm, [[8, 5], [7, 7, 8, 5]], template=[9, 1])
    torch.testing.assert_close(ragged[0], scores(gpt, [0, 8, 5, 9, 1])[-1, WORDS].softmax(-1))
    soft = gpt.get_input_embeddings().weight.detach()[[9, 1]]
    torch.testing.assert_close(next_token_features(lm, [[8, 5], [7, 7, 8, 5]], template=soft), ragged)
    prompted = lm.law_after(TEXTS, prompt=soft)
    torch.testing.assert_close(prompted[1], scores(gpt, [0, 9, 1, *TEXTS[1]])[-1, WORDS].softmax(-1))


def test_a_prompt_of_embeddings_reads_as_its_tokens(bert):
    lm = from_masked_lm(bert, **OPTIONS)
    hard = bert.get_input_embeddings().weight.detach()[[9, 1]]
    expected = lm.conditionals([[9, 1, *text] for text in TEXTS], positions=[2, 5])
    torch.testing.assert_close(lm.conditionals(TEXTS, prompt=hard, positions=[0, 3]), expected)


def test_many_texts_take_several_passes(bert, monkeypatch):
    lm = from_masked_lm(bert, **OPTIONS)
    expected = lm.conditionals(TEXTS)
    monkeypatch.setattr("ppl_hmm.language_models.hugging_face._SCORES_AT_ONCE", 1)
    torch.testing.assert_close(lm.conditionals(TEXTS), expected)


def test_label_words_by_a_tokenizer(bert, gpt, tokenizer):
    lm = from_masked_lm(bert, tokenizer, label_words=["good", "bad"])
    assert lm.label_words.tolist() == [5, 6]
    assert (lm.mask, lm.begin.tolist(), lm.end.tolist()) == (MASK_ID, [CLS], [SEP])
    texts = tokenizer(["so good film .", "film"], add_special_tokens=False)["input_ids"]
    assert probe_features(lm, texts).shape == (2, 2)
    for words in (["splendid", "bad"], ["good film", "bad"], ["good", "good"], [5], [5, 10]):
        with pytest.raises(InvalidInput, match="label"):
            from_masked_lm(bert, tokenizer, label_words=words)
    with pytest.raises(InvalidInput, match="tokenizer"):
        from_causal_lm(gpt, label_words=["good", "bad"])


@pytest.fixture
def tokenizer(tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "so", "film", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    return transformers.BertTokenizer(str(tmp_path / "vocab.txt"))


REVIEWS = ["so good film .", "film"]


def test_padding_and_special_tokens_are_no_words_of_masked_models(bert, tokenizer):
    lm = from_masked_lm(bert, tokenizer, label_words=["good", "bad"])
    for options, named in (
        ({"padding": True, "return_tensors": "pt"}, "pad"),
        ({"padding": True, "add_special_tokens": False}, "pad"),
        ({}, "cls"),
    ):
        ids = tokenizer(REVIEWS, **options)["input_ids"]
        for read in (lm.encode, lm.conditionals, lambda ids: probe_features(lm, ids)):
            with pytest.raises(InvalidInput, match=rf"\d, the tokenizer's {named} token; pass tokenizer\(texts"):
                read(ids)
    assert check_language_model(lm).passed
    unread = torch.tensor([[8, 0], [8, 5]]), torch.tensor([1, 2])
    assert probe_features(lm, unread[0], lengths=unread[1]).shape == (2, 2)
    assert probe_features(from_masked_lm(bert, tokenizer, label_words=["[SEP]", "bad"]), [[8, 3]]).shape == (1, 2)


def test_a_pair_of_sentences_is_read_with_what_separates_them(bert, tokenizer):
    lm = from_masked_lm(bert, tokenizer, label_words=["good", "bad"])
    found = lm.conditionals([[8, SEP, 5, 9], [7, SEP, 8]], positions=[2])
    for own, ids in zip(found, ([CLS, 8, SEP, MASK_ID, 9, SEP], [CLS, 7, SEP, MASK_ID, SEP]), strict=True):
        torch.testing.assert_close(own[0], scores(bert, ids)[3, [5, 6]].softmax(-1))
    for text, named in (([8, 5, SEP], "sep"), ([8, SEP, 0], "pad"), ([SEP], "sep")):
        with pytest.raises(InvalidInput, match=f"text 1: .* the tokenizer's {named} token"):
            lm.encode([[8, SEP, 5], text])


def test_padding_is_no_word_of_causal_models_and_the_end_of_a_document_is(gpt, tokenizer):
    tokenizer.bos_token = tokenizer.eos_token = "[CLS]"
    lm = from_causal_lm(gpt, tokenizer, label_words=WORDS)
    with pytest.raises(InvalidInput, match="text 1: expected ids of words alone, got 0, the tokenizer's pad token"):
        next_token_features(lm, [[8, 5], [8, 0]])
    assert next_token_features(lm, [[8, CLS, 5]]).shape == (1, 3)
    assert check_language_model(lm).passed
    tokenizer.pad_token = "[CLS]"
    assert not from_causal_lm(gpt, tokenizer, label_words=WORDS).not_text
    tokenizer.bos_token, tokenizer.eos_token = "[CLS]", "[SEP]"
    with pytest.raises(InvalidInput, match="2, the tokenizer's"):
        from_causal_lm(gpt, tokenizer, label_words=WORDS).law_after([[CLS, 5]])


@pytest.mark.parametrize("of", [lambda _: REVIEWS, lambda tokenizer: tokenizer(REVIEWS)])
def test_texts_without_ids_are_told_how_to_get_them(bert, tokenizer, of):
    lm = from_masked_lm(bert, tokenizer, label_words=["good", "bad"])
    for read in (lm.encode, lambda texts: probe_features(lm, texts)):
        with pytest.raises(InvalidInput, match=r'tokenizer\(texts, add_special_tokens=False\)\["input_ids"\]'):
            read(of(tokenizer))


def test_models_of_another_kind_are_told_what_adapts_them(bert, gpt):
    labels, seed = [0, 1], {"seed": 0}
    with pytest.raises(InvalidInput, match=r"wrap it: from_masked_lm\(model, tokenizer\)"):
        audit_language_model(bert, TEXTS, labels, **seed)
    with pytest.raises(InvalidInput, match=r"wrap it: from_causal_lm\(model, tokenizer\)"):
        next_token_features(gpt, TEXTS)
    with pytest.raises(InvalidInput, match=r"reader='masked' to an audit, or bring a CausalLM, e.g. by from_causal_lm"):
        audit_language_model(from_masked_lm(bert, **OPTIONS), TEXTS, labels, reader="causal", **seed)
    with pytest.raises(InvalidInput, match=r"reader='causal' to an audit, or bring a MaskedLM, e.g. by from_masked_lm"):
        audit_language_model(from_causal_lm(gpt), TEXTS, labels, **seed)


def test_an_audit_of_an_adapted_model(bert, gpt):
    stream = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 10, (60, 4), generator=stream)
    labels = (tokens[:, 0] > 6).long()
    lm = from_masked_lm(bert, label_words=WORDS, **OPTIONS)
    tree = audit_language_model(lm, tokens, labels, n_prompt_tokens=0, seed=0)
    assert list(tree.ppl_hmm.verdict) == ["head", "log-probabilities"]
    causal = audit_language_model(from_causal_lm(gpt, label_words=WORDS), tokens, labels, reader="causal", seed=0)
    assert "next-token" not in str(causal.attrs["kind"])
    assert causal.ppl_hmm.report().count("causal language model") == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda bert, _: from_masked_lm(bert), "mask token"),
        (lambda bert, _: from_masked_lm(bert.bert, mask_token_id=4), "scores of tokens"),
        (lambda *_: from_masked_lm("bert-base", mask_token_id=4), "got str"),
        (lambda bert, _: from_masked_lm(bert, mask_token_id=99), "0..9"),
        (lambda bert, _: from_masked_lm(bert, **OPTIONS).conditionals([[5] * 11]), "at most 12 positions"),
        (lambda bert, _: from_masked_lm(bert, **OPTIONS).conditionals([[10]]), "out of range"),
        (lambda bert, _: from_masked_lm(bert, **OPTIONS).conditionals([[5]], prompt=[[1.0]]), "prompt"),
        (lambda _, gpt: from_causal_lm(gpt).law_after([[5, -1, 6]]), "observed token"),
        (lambda _, gpt: from_causal_lm(gpt, begin=[]), "begins texts"),
    ],
)
def test_bad_input(bert, gpt, call, message):
    with pytest.raises(InvalidInput, match=message):
        call(bert, gpt)


def test_without_transformers(bert, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InvalidInput, match=r"from_masked_lm: expected the extra 'lm' installed, got no module"):
        from_masked_lm(bert, **OPTIONS)
