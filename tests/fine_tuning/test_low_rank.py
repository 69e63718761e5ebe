"""How far low-rank updates preserve a tangent kernel."""

import pytest
import torch

from ppl_hmm import (
    OracleLM,
    TransformerLM,
    kernel_alignment,
    latent_posterior,
    probe_features,
    random_hmm,
    random_task,
    sample,
    tangent_kernel,
    train,
)
from ppl_hmm.fine_tuning.functions import ReadNetwork
from ppl_hmm.fine_tuning.readouts import ClozeHead, words_for
from ppl_hmm.fine_tuning.subspaces import LowRank


def test_embeddings_are_adapted_where_that_is_asked_for():
    network = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 2))
    assert list(LowRank(2).of(network).start) == ["1.weight"]
    assert list(LowRank(2, embeddings=True).of(network).start) == ["0.weight", "1.weight"]


@pytest.mark.slow
def test_rank_eight_preserves_the_kernel_of_a_trained_transformer():
    """Against the kernel of the matrices that are adapted: what embeddings add to it, no rank can keep."""
    model = random_hmm("wei2021", 8, 10, seed=8)
    lm = train(TransformerLM(10, longest=21, seed=0), model, steps=1600, length=21, learning_rate=3e-3, seed=0).lm
    text = sample(model, 2000, 20, seed=1).tokens
    task = random_task(model, 0, text)
    labels = task.labels(latent_posterior(model, task, text))
    head = ClozeHead(words_for(probe_features(OracleLM(model), text), labels))
    few = text[torch.cat([(labels == c).nonzero()[:16, 0] for c in (0, 1)])]

    def within(parameters):
        return tangent_kernel(lm, few, read=head, parameters=parameters)

    full, of_matrices = within("all"), within(list(LowRank(1).of(ReadNetwork(lm, head)).start))
    found = {}
    for rank in (1, 2, 4, 8, 16, 32):
        rows = []
        for seed in range(5):
            kernel, with_embeddings = within(LowRank(rank, seed)), within(LowRank(rank, seed, embeddings=True))
            pairs = (kernel, of_matrices), (kernel, full), (with_embeddings, full)
            rows.append([kernel_alignment(*pair) for pair in pairs])
        found[rank] = torch.tensor(rows).mean(0)
    assert found[8][0] >= 0.95, found
    assert (found[32] > found[1]).all(), found
