"""What users of a causal reader are told: where texts end, what is refused, and what may be done instead."""

import itertools

import pytest
import torch

from ppl_hmm import (
    HMM,
    CausalOracleLM,
    ConditionNotMet,
    ImpossibleText,
    InvalidInput,
    PosteriorTask,
    audit,
    causal_certificate,
    causal_prompt_certificate,
    channel_prompts,
    constructed_head,
    constructed_prompt,
    example,
    latent_posterior,
    next_token_features,
    random_hmm,
)

ALIASED, ON_FIRST = example("aliased")
TWO = HMM([0.5, 0.5], [[0.5, 0.5], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])


def words(tree):
    return " ".join(tree.ppl_hmm.report().split())


@pytest.mark.parametrize(("position", "n_tokens"), [(1, 2), (-2, 4)])
def test_heads_of_inner_positions_read_texts_up_to_them(position, n_tokens):
    model = random_hmm("dirichlet", 3, 4, seed=1)
    task = PosteriorTask([[0] * 3, [1, -1, 0.1]], position=position, given="prefix")
    texts = torch.tensor(list(itertools.product(range(4), repeat=5)))
    head = causal_certificate(model, task).weights
    want = task.labels(latent_posterior(model, task, texts))
    read = next_token_features(CausalOracleLM(model), texts, lengths=[n_tokens] * len(texts))
    assert ((read @ head > 0).long() == want).all()
    said = words(audit(model, task, length=3, n_sequences=50, seed=0, reader="causal"))
    assert "next_token_features(lm, tokens, lengths=…); lengths are the numbers of tokens up to position" in said
    assert f"template=prompt, lengths=…); lengths are the numbers of tokens up to position {position} with it" in said


def test_heads_of_the_last_state_read_whole_texts():
    model = random_hmm("dirichlet", 3, 4, seed=1)
    said = words(audit(model, PosteriorTask([[0] * 3, [1, -1, 0.1]], position=-1), length=3, seed=0, reader="causal"))
    assert "it reads next_token_features(lm, tokens)" in said
    assert "it reads next_token_features(lm, tokens, template=prompt)" in said
    assert "lengths=" not in said


@pytest.mark.parametrize("weights", [[[0] * 4, [1] * 4], [[0.5] * 4, [1] * 4, [2] * 4]])
@pytest.mark.parametrize("options", [{"position": -1}, {"position": 0}, {}])
def test_constant_tasks_stay_recoverable_after_any_template(weights, options):
    model = random_hmm("dirichlet", 4, 2, seed=0)
    certificate = causal_certificate(model, PosteriorTask(weights, **options), [0])
    assert certificate.recoverable
    share = certificate.sign_agreement(list(itertools.product(range(2), repeat=4)))
    assert (share.agreeing, share.undecidable) == (16, 0)


def test_after_a_template_the_equations_are_not_called_necessary():
    model, task = random_hmm("dirichlet", 4, 2, seed=0), PosteriorTask([[0] * 4, [1, -1, 0, 0]], position=-1)
    without = " ".join(causal_certificate(model, task).reasons)
    after = " ".join(causal_certificate(model, task, [0]).reasons)
    assert "the scores of every head differ" in without
    assert "the scores of every head differ" not in after
    assert "sufficient alone" in after


@pytest.mark.parametrize("place", [{}, {"position": -1}, {"position": 1}, {"position": 1, "given": "prefix"}])
def test_a_template_that_no_text_allows_is_refused(place):
    """State 2 alone allows token 2, and no text leads there."""
    emission = [[0.7, 0.3, 0], [0.1, 0.9, 0], [0, 0, 1]]
    model = HMM([0.5, 0.5, 0], [[0.5, 0.5, 0], [0.2, 0.8, 0], [0, 0, 1]], emission)
    for number, template in enumerate([[2], [0, 2]]):
        with pytest.raises(InvalidInput, match=f"token {number} of the template: expected one that some state allows"):
            causal_certificate(model, PosteriorTask([[0, 0, 0], [1, -1, 0]], **place), template)


@pytest.mark.parametrize(("place", "number"), [((-1, "text"), 1), ((-3, "text"), 0), ((-3, "prefix"), 1)])
def test_where_a_template_is_impossible_depends_on_the_task(place, number):
    """The chain moves 0 → 1 → 2 → 3 and stays: of three tokens or more the last state is 3, which emits token 2."""
    moves = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    model = HMM([1, 0, 0, 0], moves, [[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    with pytest.raises(InvalidInput, match=f"token {number} of the template"):
        causal_certificate(model, PosteriorTask([[0] * 4, [0, 1, -1, 0]], *place), [0, 0])


def test_channel_prompts_are_not_advised_where_they_are_refused():
    model = HMM([0.3, 0.3, 0.4], [[0, 0.5, 0.5], [0, 0.2, 0.8], [0, 0.7, 0.3]], [[0.7, 0.3], [0.1, 0.9], [0.5, 0.5]])
    task = PosteriorTask([[0, 0, 0], [-0.2, 1, -1]])
    with pytest.raises(InvalidInput):
        channel_prompts(model, task)
    said = words(audit(model, task, length=4, seed=0, reader="causal"))
    assert "compare the likelihoods" not in said
    assert "read a masked language model" in said
    channel = said[said.index("a comparison of how likely") :]
    assert "the first token cannot come from a state that the task needs" in channel
    assert "the law of the last state alone" not in channel
    assert "no weights for it" not in channel
    assert "compare the likelihoods" in words(audit(ALIASED, ON_FIRST, length=3, seed=0, reader="causal"))


def test_what_a_causal_reader_may_do_instead():
    with pytest.raises(ConditionNotMet, match="learn a head instead, or try another template") as raised:
        constructed_head(ALIASED, ON_FIRST, reader="causal")
    assert "mask" not in str(raised.value)
    with pytest.raises(ConditionNotMet, match="learn a prompt instead, or try longer templates") as raised:
        constructed_prompt(ALIASED, ON_FIRST, reader="causal")
    assert "threshold" not in str(raised.value)


def test_soft_templates_are_called_templates():
    task = PosteriorTask([[0, 0], [1, -1]], position=-1)
    for rows in ([[1.0, 2.0, 3.0]], [[1.0, -2.0]]):
        with pytest.raises(InvalidInput, match=r"^template") as raised:
            causal_certificate(TWO, task, rows)
        with pytest.raises(InvalidInput, match=r"^template") as again:
            next_token_features(CausalOracleLM(TWO), [[0]], rows)
        assert str(again.value) == str(raised.value)
        assert "prompt" not in str(raised.value)


def test_texts_without_a_token_are_named():
    match = "sequence 0: expected a text of at least one token.*got none, or MASK alone; leave the sequence out$"
    with pytest.raises(InvalidInput, match=match):
        audit(ALIASED, ON_FIRST, [[-1, -1], [0, 1]], seed=0, reader="causal")
    with pytest.raises(InvalidInput, match="sequence 1: expected a text of at least one token"):
        causal_certificate(ALIASED, ON_FIRST, tokens=[[0], []])


def test_channel_prompts_refuse_impossible_text():
    model = HMM([0.5, 0.5], [[0.5, 0.5], [0.2, 0.8]], [[0.7, 0.3, 0], [0.1, 0.9, 0]])
    found = channel_prompts(model, PosteriorTask([[0, 0], [1, -1]]))
    with pytest.raises(ImpossibleText, match="sequence 1: expected text of positive probability"):
        found.labels([[0, 1], [0, 2]])
    assert found.sure([[0, 1], [0, 2]]).tolist() == [True, False]
    indifferent = channel_prompts(model, PosteriorTask([[1, 0], [1, 0]]))
    assert indifferent.labels([[0, 1]]).tolist() == [1]  # no class is preferred: ties go up


def test_a_prompt_of_a_causal_reader_stands_after_the_text():
    model = random_hmm("dirichlet", 6, 4, seed=0)
    task = PosteriorTask.of_next_state([[0] * 6, [1, -1, 0, 0, 0, 0]], model)
    assert causal_prompt_certificate(model, task).recoverable
    said = words(audit(model, task, length=3, n_sequences=50, seed=0, reader="causal"))
    assert "It reads 4 numbers of each text and 1 prompt token after it." in said
