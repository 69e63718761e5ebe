"""Each chain may have texts of its own: its counts are those of a target of them alone."""

import torch

from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.texts import Batch, WeightedTexts

SHAPES = {"initial": (3,), "transition": (3, 3), "emission": (3, 4)}
PRIOR = DirichletPrior.of(None, SHAPES)


def test_chains_count_their_own_texts():
    stream = torch.Generator().manual_seed(0)
    ids = torch.randint(4, (2, 5, 6), generator=stream)
    lengths, weights = torch.tensor([[6, 5, 4, 6, 1], [6, 6, 2, 3, 6]]), torch.rand(2, 5, generator=stream).double()
    ids = torch.where(torch.arange(6) < lengths[..., None], ids, 4)
    laws = PRIOR.draw(2, stream)

    def counts(chains):
        batch = Batch(ids[chains], lengths[chains], weights[chains], torch.arange(5))
        given = {name: law[chains].reshape(-1, *SHAPES[name]) for name, law in laws.items()}
        return Target(WeightedTexts((batch,), 4), PRIOR).counts(given)

    together, evidence = counts(slice(None))
    for chain in range(2):
        alone, own_evidence = counts(chain)
        torch.testing.assert_close(evidence[chain], own_evidence[0])
        for name in SHAPES:
            torch.testing.assert_close(together[name][chain], alone[name][0])
