"""How far low-rank updates preserve a tangent kernel."""

import pytest
import torch
from torch import nn

from ppl_hmm import (
    BidirectionalLM,
    InvalidInput,
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


class Scored(nn.Module):
    """A layer and a score of what it returns."""

    def __init__(self, layer, *arguments):
        super().__init__()
        self.layer, self.arguments = layer, arguments

    def forward(self, inputs):
        found = self.layer(*(argument(inputs) for argument in self.arguments))
        return (found[0] if isinstance(found, tuple) else found).flatten(1).square().sum(1)


def sequence(inputs):
    return inputs


def first(inputs):
    return inputs[:, 0]


MATRICES = {
    "linear": (lambda: Scored(nn.Linear(4, 6), sequence), 1),
    "RNN": (lambda: Scored(nn.RNN(4, 3, num_layers=2, batch_first=True), sequence), 1),
    "GRU": (lambda: Scored(nn.GRU(4, 3, bidirectional=True, batch_first=True), sequence), 3),
    "LSTM": (lambda: Scored(nn.LSTM(4, 3, batch_first=True), sequence), 4),
    "a step of a GRU": (lambda: Scored(nn.GRUCell(4, 3), first), 3),
    "attention": (lambda: Scored(nn.MultiheadAttention(4, 2, batch_first=True), sequence, sequence, sequence), 3),
}


@pytest.mark.parametrize("kind", MATRICES)
def test_each_matrix_has_its_own_projection_of_its_gradient(kind):
    """The kernel is Σ ⟨∇M(x)·Aᵀ, ∇M(x′)·Aᵀ⟩ over matrices M: a gate is one of them."""
    torch.manual_seed(0)
    make, n_stacked = MATRICES[kind]
    network, rank = make().double(), 2
    inputs = torch.randn(5, 3, 4, dtype=torch.float64)
    space = LowRank(rank, seed=3).of(network)
    assert {name for name, part in network.named_parameters() if part.ndim == 2} == set(space.start)
    expected = 0
    for name, start in space.start.items():
        matrix = network.get_parameter(name)
        stacked = 1 if name == "layer.out_proj.weight" else n_stacked
        unit = torch.eye(len(matrix) // stacked, rank).double().repeat(stacked, 1)
        assert unit.shape == start.shape
        inward = (space.parameters(space.start | {name: unit})[name] - matrix).detach().unflatten(0, (stacked, -1))
        inward = inward[:, :rank]  # (matrices,r,in)
        assert len(torch.unique(inward)) == inward.numel()
        gradients = [torch.autograd.grad(network(each[None]).sum(), matrix)[0] for each in inputs]
        each = torch.stack(gradients).unflatten(1, (stacked, -1)) @ inward.mT
        expected = expected + each.flatten(1) @ each.flatten(1).mT
    found = tangent_kernel(network, inputs, parameters=LowRank(rank, seed=3))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_projected_cells_have_stacked_gates_and_a_matrix_more():
    start = LowRank(2).of(nn.LSTM(4, 3, proj_size=2)).start
    shapes = {name: tuple(part.shape) for name, part in start.items()}
    assert shapes == {"weight_ih_l0": (12, 2), "weight_hh_l0": (12, 2), "weight_hr_l0": (2, 2)}


def test_what_is_tuned_in_full_adds_its_own_kernel():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    inputs = torch.randn(5, 4, dtype=torch.float64)
    below, above = network[:2], network[2:]
    adapted = tangent_kernel(below, inputs, read=lambda lm, given: above(lm(given)), parameters=LowRank(2))
    in_full = tangent_kernel(network, inputs, parameters=["2"])
    found = tangent_kernel(network, inputs, parameters=LowRank(2, full=["2"]))
    torch.testing.assert_close(found, adapted + in_full, rtol=1e-10, atol=1e-12)


def test_unknown_names_to_tune_in_full():
    with pytest.raises(InvalidInput, match="parameter 'head': expected one of weight, bias"):
        LowRank(2, full=["head"]).of(nn.Linear(3, 2))


@pytest.mark.parametrize("full", ["1", "all", None, [1], LowRank(1)])
def test_what_is_tuned_in_full_is_named_in_a_list(full):
    with pytest.raises(InvalidInput, match="full: expected names of modules or parameters"):
        LowRank(2, full=full)


def test_what_is_tuned_in_full_may_be_tied_to_other_parameters():
    """A transformer scores words with their embeddings: both names are of one matrix."""
    lm, embeddings = TransformerLM(5, width=8, heads=2, seed=0), "network.bert.embeddings.word_embeddings.weight"
    of_scores = LowRank(2, full=["network.cls.predictions.decoder.weight"])
    assert hash(of_scores) == hash(LowRank(2, full=("network.cls.predictions.decoder.weight",)))
    start = of_scores.of(lm).start
    assert start[embeddings].shape == lm.get_parameter(embeddings).shape
    assert start.keys() == LowRank(2, full=[embeddings]).of(lm).start.keys()


def test_embeddings_are_adapted_where_that_is_asked_for():
    network = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))
    assert list(LowRank(2).of(network).start) == ["1.weight"]
    assert list(LowRank(2, embeddings=True).of(network).start) == ["0.weight", "1.weight"]


NETWORKS = {
    "transformer": (lambda: TransformerLM(10, longest=21, seed=0), "lm.network.bert.embeddings.word_embeddings.weight"),
    "two GRU streams": (lambda: BidirectionalLM(10, width=64, seed=0), "lm.join.out.weight"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_rank_eight_with_the_scores_in_full_preserves_the_kernel_of_a_trained_network(name):
    """Against the kernel of all parameters; adapters alone keep a transformer's, of the matrices that they adapt."""
    model, (make, scores) = random_hmm("wei2021", 8, 10, seed=8), NETWORKS[name]
    lm = train(make(), model, steps=1600, length=21, learning_rate=3e-3, seed=0).lm
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
            kernel, with_scores = within(LowRank(rank, seed)), within(LowRank(rank, seed, full=[scores]))
            pairs = (kernel, of_matrices), (kernel, full), (with_scores, full)
            rows.append([kernel_alignment(*pair) for pair in pairs])
        found[rank] = torch.tensor(rows).mean(0)
    assert found[8][2] >= 0.95, found
    if name == "transformer":
        assert found[8][0] >= 0.95, found
    assert (found[32] > found[1]).all(), found
