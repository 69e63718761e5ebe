"""Tangent kernels against a loop of gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from ppl_hmm import InvalidInput, OracleLM, kernel_alignment, random_hmm, sample, tangent_kernel
from ppl_hmm.fine_tuning.functions import ReadNetwork
from ppl_hmm.fine_tuning.subspaces import LowRank, RandomProjection
from ppl_hmm.fine_tuning.unrolled import UnrolledGRU

TOKENS = torch.randint(0, 5, (7, 6), generator=torch.Generator().manual_seed(0))


class Recurrent(nn.Module):
    """A little network of tokens."""

    def __init__(self, n_classes=2, recurrence=nn.GRU, **options):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.recurrence = recurrence(3, 4, batch_first=True, **options)
        self.out = nn.Linear(4 * (1 + self.recurrence.bidirectional), n_classes)

    def forward(self, tokens):
        return self.out(self.recurrence(self.embedding(tokens))[0][:, -1])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, tokens):
        return self.out(self.layer(self.embedding(tokens))[:, 0])


def network(kind, **options):
    torch.manual_seed(1)
    return kind(**options).double()


def jacobian(model, tokens, names=None):
    """The oracle: gradients (N,S,P) by a loop of autograd."""
    model.eval()
    parameters = [part for name, part in model.named_parameters() if names is None or name in names]
    rows = []
    for example in tokens:
        logits = model(example[None])[0]
        scores = [logits[1] - logits[0]] if len(logits) == 2 else list(logits)
        of = [torch.autograd.grad(each, parameters, retain_graph=True, materialize_grads=True) for each in scores]
        rows.append(torch.stack([torch.cat([part.flatten() for part in each]) for each in of]))
    return torch.stack(rows)


def by_kind(kind, rows, columns):
    if kind == "sign":
        rows = rows.sign()
    return rows @ (columns if kind == "sgd" else columns.sign()).mT


NETWORKS = {
    "GRU": lambda: network(Recurrent),
    "two layers both ways": lambda: network(Recurrent, num_layers=2, bidirectional=True),
    "LSTM, which torch cannot batch": lambda: network(Recurrent, recurrence=nn.LSTM),
    "attention": lambda: network(Attending),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["sgd", "sign", "asymmetric-sign"])
def test_kernels_are_products_of_gradients(name, kind):
    model = NETWORKS[name]()
    explicit = jacobian(model, TOKENS)[:, 0]
    explicit[explicit.abs() < 1e-14] = 0
    found = tangent_kernel(model, TOKENS, kind=kind)
    if kind == "sgd" or name != "attention":  # a key's bias has gradient zero but for rounding, whose sign is any
        torch.testing.assert_close(found, by_kind(kind, explicit, explicit), rtol=1e-10, atol=1e-12)
    apart = tangent_kernel(model, TOKENS[:3], TOKENS[2:], kind=kind)
    torch.testing.assert_close(apart, found[:3, 2:], rtol=1e-10, atol=1e-12)


def test_blocks_of_several_classes():
    model = network(Recurrent, n_classes=3)
    explicit = jacobian(model, TOKENS).flatten(0, 1)
    found = tangent_kernel(model, TOKENS)
    assert found.shape == (7, 3, 7, 3)
    torch.testing.assert_close(found.reshape(21, 21), explicit @ explicit.mT, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "sign"])
def test_symmetric_kernels_have_no_negative_eigenvalues(kind):
    found = tangent_kernel(network(Recurrent), TOKENS, kind=kind)
    torch.testing.assert_close(found, found.mT, rtol=1e-14, atol=1e-14)
    assert torch.linalg.eigvalsh(found).min() > -1e-10 * found.trace()


def test_chunks_and_order_change_nothing():
    model, order = network(Recurrent), torch.tensor([4, 2, 0, 6, 1, 3, 5])
    found = tangent_kernel(model, TOKENS)
    for chunk in (1, 2, 7):
        torch.testing.assert_close(tangent_kernel(model, TOKENS, chunk=chunk), found, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent_kernel(model, TOKENS[order]), found[order][:, order], rtol=1e-12, atol=1e-12)


def test_scaling_the_scores_scales_the_kernel():
    model = network(Recurrent)
    found = tangent_kernel(model, TOKENS, read=lambda lm, tokens: 3 * lm(tokens))
    torch.testing.assert_close(found, 9 * tangent_kernel(model, TOKENS))
    of_signs = tangent_kernel(model, TOKENS, kind="sign", read=lambda lm, tokens: 3 * lm(tokens))
    assert torch.equal(of_signs, tangent_kernel(model, TOKENS, kind="sign"))


def test_a_linear_head_on_fixed_features_has_the_kernel_of_its_features():
    model, features = network(Recurrent), torch.randn(7, 4, generator=torch.Generator().manual_seed(2)).double()
    found = tangent_kernel(model.out, features, parameters=["weight"])
    torch.testing.assert_close(found, 2 * features @ features.mT)  # the difference of two logits has two gradients
    of_one = tangent_kernel(nn.Linear(4, 1, bias=False).double(), features)
    torch.testing.assert_close(of_one, features @ features.mT)


def test_zero_gradients_have_zero_signs():
    model = network(Recurrent)
    found = tangent_kernel(model, TOKENS, kind="sign", parameters=["embedding"])
    met = torch.stack([torch.isin(torch.arange(5), row) for row in TOKENS]).double()
    assert torch.equal(found.diagonal(), 3 * met.sum(1))


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ("no-embeddings", lambda name: "embedding" not in name),
        ("biases", lambda name: "bias" in name),
        (["out"], lambda name: name.startswith("out.")),
        (["out.bias", "embedding"], lambda name: name in ("out.bias", "embedding.weight")),
    ],
)
def test_subsets_of_parameters(choice, kept):
    model = network(Recurrent)
    names = [name for name, _ in model.named_parameters() if kept(name)]
    explicit = jacobian(model, TOKENS, names)[:, 0]
    torch.testing.assert_close(
        tangent_kernel(model, TOKENS, parameters=choice), explicit @ explicit.mT, rtol=1e-10, atol=1e-12
    )


def test_random_projections_are_as_far_as_johnson_and_lindenstrauss_say():
    model = network(Recurrent)
    found, n_dimensions = tangent_kernel(model, TOKENS), 20
    squared = [
        (tangent_kernel(model, TOKENS, parameters=RandomProjection(n_dimensions, seed)) - found).square().sum().item()
        for seed in range(60)
    ]
    expected = (found.trace() ** 2 + found.square().sum()).item() / n_dimensions
    assert abs(np.mean(squared) - expected) < 4 * np.std(squared) / np.sqrt(len(squared))


def test_a_prompt_alone_of_an_exact_language_model():
    lm = OracleLM(random_hmm("dirichlet", 3, 4, seed=0))
    text, prompt = sample(lm.model, 5, 6, seed=1).tokens, torch.rand(1, 3, dtype=torch.float64)
    encoded = torch.cat([torch.full((5, 1), -1), text], 1)

    def scores(parameters, tokens):
        found = lm.encode(tokens).conditionals(parameters["prompt"], [0])
        return found[:, 0, :2].log()

    found = tangent_kernel(scores, encoded, parameters={"prompt": prompt.requires_grad_()})
    rows = [torch.autograd.grad((lambda f: f[0, 1] - f[0, 0])(scores({"prompt": prompt}, each[None])), prompt)[0]
            for each in encoded]  # fmt: skip
    rows = torch.stack(rows).flatten(1)
    torch.testing.assert_close(found, rows @ rows.mT)


def test_the_network_that_is_passed_stays_as_it_is():
    model = network(Recurrent).train()
    before = {name: part.clone() for name, part in model.state_dict().items()}
    tangent_kernel(model, TOKENS)
    assert model.training
    assert type(model.recurrence) is nn.GRU
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())
    assert all(part.grad is None for part in model.parameters())


@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}, {"batch_first": False}]
)
def test_unrolled_recurrences_are_those_of_torch(options):
    torch.manual_seed(0)
    gru = nn.GRU(3, 4, **{"batch_first": True} | options).double()
    given = torch.randn(5, 6, 3, dtype=torch.float64)
    for found, wanted in zip(UnrolledGRU(gru)(given), gru(given), strict=True):
        torch.testing.assert_close(found, wanted)


def test_parameters_of_readers_are_named():
    names = [name for name, _ in ReadNetwork(network(Recurrent), nn.Linear(2, 2)).named_parameters()]
    assert {"lm.out.bias", "head.weight"} <= set(names)


def half():
    return network(Recurrent).half()


def frozen():
    model = network(Recurrent)
    model.out.weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (half, {}, "parameter 'embedding.weight': expected float32 or float64, got torch.float16"),
        (frozen, {}, "expected parameters that require gradients, got 1 frozen: out.weight"),
        (lambda: nn.Flatten(), {}, "at least one, got none"),
        (lambda: "model", {}, "a torch.nn.Module"),
        (lambda: network(Recurrent), {"kind": "adam"}, "unknown kind of tangent kernel"),
        (lambda: network(Recurrent), {"parameters": "head"}, "unknown choice of parameters"),
        (lambda: network(Recurrent), {"parameters": ["head"]}, "parameter 'head': expected one of embedding.weight"),
        (lambda: network(Recurrent), {"parameters": {"a": torch.zeros(1)}}, "a dictionary for a plain function alone"),
        (lambda: network(Recurrent), {"parameters": LowRank(0)}, "rank: expected an integer of at least 1"),
        (lambda: network(Recurrent), {"memory": 1e3}, r"room for N·P = 7·133 entries that are kept, and a chunk of 1"),
        (lambda: network(Recurrent), {"memory": 0}, "memory: expected a number of bytes above 0"),
        (lambda: network(Recurrent), {"read": lambda lm, x: lm.embedding(x)}, r"logits of shape \(1, C\)"),
    ],
)
def test_bad_input(make, options, message):
    with pytest.raises(InvalidInput, match=message):
        tangent_kernel(make(), TOKENS, **options)


def test_no_inputs():
    with pytest.raises(InvalidInput, match="inputs: expected at least one example"):
        tangent_kernel(network(Recurrent), TOKENS[:0])


def test_alignment():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 3))
    K = X @ X.T
    H = np.eye(6) - 1 / 6
    L = np.diag(np.arange(6.0))
    wanted = np.sum((H @ K @ H) * (H @ L @ H)) / np.linalg.norm(H @ K @ H) / np.linalg.norm(H @ L @ H)
    assert kernel_alignment(K, L) == pytest.approx(wanted)
    assert kernel_alignment(K, 3 * K + 1) == pytest.approx(1)
    with pytest.raises(InvalidInput, match="finite numbers that vary"):
        kernel_alignment(np.ones((3, 3)), np.eye(3))
    with pytest.raises(InvalidInput, match="two of one size"):
        kernel_alignment(np.eye(2), np.eye(3))
    with pytest.raises(InvalidInput, match="a square one"):
        kernel_alignment(np.ones((3, 2)), np.eye(3))
