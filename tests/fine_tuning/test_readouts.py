"""What fine-tuned language models are read by."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ppl_hmm import BidirectionalLM, InvalidInput, OracleLM, TransformerLM, example, fine_tune, tangent_kernel
from ppl_hmm.fine_tuning.functions import ScoreFunction
from ppl_hmm.fine_tuning.readouts import ClozeHead, LinearReadout, hidden_at_mask, scores_of, words_for

TEXT = torch.randint(0, 4, (5, 6), generator=torch.Generator().manual_seed(0))
NETWORKS = {
    "bidirectional": lambda: BidirectionalLM(4, width=6, seed=0),
    "transformer": lambda: TransformerLM(4, width=6, layers=1, heads=2, longest=20, seed=0),
}


@pytest.fixture(params=NETWORKS)
def lm(request):
    return NETWORKS[request.param]()


def behind_mask(text):
    return torch.cat([torch.full((len(text), 1), -1), text], 1)


def test_words_are_read_where_the_language_model_predicts_the_mask(lm):
    wanted = lm.conditionals(behind_mask(TEXT), positions=[0])[:, 0].detach()
    found = scores_of(lm, hidden_at_mask(lm, TEXT)).softmax(-1).detach()
    torch.testing.assert_close(found, wanted)
    prompt = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    wanted = lm.conditionals(behind_mask(TEXT), prompt=prompt, positions=[0])[:, 0].detach()
    torch.testing.assert_close(scores_of(lm, hidden_at_mask(lm, TEXT, prompt)).softmax(-1).detach(), wanted)


def test_gradients_are_batched_and_those_of_a_loop(lm):
    head = ClozeHead([0, 2], prompt=torch.zeros(1, 6))
    function = ScoreFunction.of(lm, head, "all")
    assert function._can_batch(function.space.start, TEXT[:1])
    found = tangent_kernel(lm, TEXT, read=head)
    rows = []
    parameters = [*lm.parameters(), *head.parameters()]
    for each in TEXT:
        logits = head(lm, each[None])[0]
        of = torch.autograd.grad(logits[1] - logits[0], parameters, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in of]))
    gradients = torch.stack(rows)
    torch.testing.assert_close(found, gradients @ gradients.mT, rtol=1e-4, atol=1e-6)


def test_a_prompt_alone(lm):
    head = ClozeHead([0, 2], prompt=torch.ones(1, 6))
    run = fine_tune(lm, TEXT, [0, 1, 0, 1, 0], read=head, parameters=["head.prompt"], learning_rate=0.1, steps=2)
    assert set(run.state()) == {"head.prompt"}
    assert not torch.equal(run.after["head.prompt"], head.prompt)
    assert tangent_kernel(lm, TEXT, read=head, parameters=["head.prompt"]).shape == (5, 5)


def test_a_probed_head_is_the_regression(lm):
    labels = np.array([0, 1, 0, 1, 1])
    head = LinearReadout.probed(lm, TEXT, labels, C=2.0)
    hidden = hidden_at_mask(lm, TEXT).detach().double().numpy()
    theirs = LogisticRegression(C=2.0, tol=1e-10).fit(hidden, labels)
    logits = head(lm, TEXT).detach()
    np.testing.assert_allclose((logits[:, 1] - logits[:, 0]).numpy(), theirs.decision_function(hidden), atol=1e-3)


def test_fresh_heads_have_a_seed():
    first, again, other = (LinearReadout(6, 3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)
    assert not first.linear.bias.any()


def test_words_are_those_whose_order_tells_the_label():
    laws = torch.tensor([[0.5, 0.1, 0.4], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3]])
    assert words_for(laws, torch.tensor([0, 0, 1, 1])) == [2, 1]


@pytest.mark.parametrize("words", [[], [1], [1, 1]])
def test_bad_words(words):
    with pytest.raises(InvalidInput, match="a different one for each of at least two classes"):
        ClozeHead(words)


def test_more_bad_input():
    lm = NETWORKS["bidirectional"]()
    with pytest.raises(InvalidInput, match=r"word of a class: expected a token in 0\.\.3, got 7"):
        tangent_kernel(lm, TEXT, read=ClozeHead([0, 7]))
    with pytest.raises(InvalidInput, match="a BidirectionalLM, which cannot be called; pass read="):
        tangent_kernel(lm, TEXT)
    with pytest.raises(InvalidInput, match="labels: expected at least two classes"):
        LinearReadout.probed(lm, TEXT, [1] * 5)


def test_other_language_models_need_a_reader_of_their_own():
    with pytest.raises(InvalidInput, match="pass read=, a function of your own"):
        hidden_at_mask(OracleLM(example("aliased")[0]), TEXT)
