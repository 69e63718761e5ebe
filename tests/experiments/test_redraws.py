"""A model that has no balanced task is drawn again, by a rule; the others stay what they are."""

import pytest
import torch

from ppl_hmm import HMM, random_hmm, sample, schema
from ppl_hmm.base.randomness import derived_seed
from ppl_hmm.errors import InvalidInput
from ppl_hmm.experiments.figure3 import text
from ppl_hmm.experiments.figure3.answers import Answer, columns
from ppl_hmm.experiments.figure3.configurations import HeadVsPrompt, MemoryVsVanilla
from ppl_hmm.regimes.tasks import NoBalancedTask

SETTINGS = HeadVsPrompt((2,), 3, length=5, n_train=20, n_validation=5, n_test=5, vocabulary_size=3)
# All of its texts say the same about H_0.
ONE_SIDED = HMM(torch.tensor([1 - 1e-12, 1e-12]), torch.eye(2), torch.full((2, 3), 1 / 3))


def two_sided(seed):
    """A model whose texts tell its two states apart; another one for each seed."""
    share = 0.05 + 0.1 * random_hmm("dirichlet", 1, 2, seed).emission[0, 0].item()
    return HMM(torch.tensor([0.5, 0.5]), torch.eye(2), torch.tensor([[1 - share, share, 0], [share, 1 - share, 0]]))


def drawn(unbalanced):
    """The text of a cell whose regime gives a model without a balanced task for some seeds."""
    asked = []

    def regime(name, n_states, vocabulary_size, seed):
        asked.append(seed)
        return ONE_SIDED if unbalanced(seed) else two_sided(seed)

    (cell,) = SETTINGS.cells()
    return text.draw(SETTINGS, cell, regime, "dirichlet", 2, 3), asked


@pytest.fixture(autouse=True)
def few_attempts(monkeypatch):
    monkeypatch.setattr("ppl_hmm.regimes.tasks._TASK_ATTEMPTS", 20)


def test_only_the_models_without_a_balanced_task_are_drawn_again():
    usual, _ = drawn(lambda _: False)
    assert usual.redraws == [0, 0, 0]
    redrawn, asked = drawn(lambda seed: seed in (1, derived_seed(1, "redraw 1")))
    assert asked == [0, 1, derived_seed(1, "redraw 1"), derived_seed(1, "redraw 2"), 2]
    assert redrawn.redraws == [0, 2, 0]
    for p in (0, 2):
        assert redrawn.models[p].identical(usual.models[p])
        assert redrawn.tasks[p].identical(usual.tasks[p])
        assert torch.equal(redrawn.tokens[p], usual.tokens[p])
    seed = derived_seed(1, "redraw 2")
    assert redrawn.models[1].identical(two_sided(seed))
    assert torch.equal(redrawn.tokens[1], sample(redrawn.models[1], 30, 5, seed).tokens)


def test_the_model_is_named(caplog):
    with pytest.raises(NoBalancedTask, match=r"regime 'dirichlet' of sizes \(2, 3\), seed 0: .*none in 10 redraws"):
        drawn(lambda _: True)
    assert len(caplog.messages) == 11
    assert caplog.messages[0].startswith("regime 'dirichlet' of sizes (2, 3), seed 0: no balanced task after 0 redraws")


def test_redraws_are_counted_in_the_results():
    first, _ = drawn(lambda seed: seed == 2)
    second, _ = drawn(lambda _: False)
    results = columns((first, [Answer("a", [0.5] * 3), Answer("b", [0.5] * 3)]), (second, [Answer("c", [1.0] * 3)]))
    redraws = results[schema.REDRAWS]
    assert redraws.sel(approach=["a", "b"]).values.tolist() == 2 * [[0, 0, 1]]
    assert redraws.sel(approach="c").values.tolist() == [0, 0, 0]


@pytest.mark.parametrize("settings", [HeadVsPrompt, MemoryVsVanilla])
@pytest.mark.parametrize("size", ["vocabulary_size", "n_train"])
def test_sizes_that_have_no_balanced_task_are_refused_first(settings, size):
    with pytest.raises(InvalidInput, match=f"{size}: expected an integer of at least 2, got 1"):
        settings((8,), 1, **{size: 1})
