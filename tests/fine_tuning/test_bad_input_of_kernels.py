"""What tangent kernels and fine-tuning refuse: one clear error each, and no other library's."""

import numpy as np
import pytest
import torch
from torch import nn

from ppl_hmm import (
    AsymmetricSVM,
    BidirectionalLM,
    InvalidInput,
    KernelLogistic,
    KernelRegression,
    fine_tune,
    label_kernel,
    linearization_score,
    tangent_kernel,
)
from ppl_hmm.fine_tuning.readouts import ClozeHead, LinearReadout
from ppl_hmm.fine_tuning.subspaces import LowRank, RandomProjection

TOKENS = torch.randint(0, 5, (6, 7), generator=torch.Generator().manual_seed(0))
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
Y = [0, 1, 0, 1, 0, 1]
ONE_STEP = {"learning_rate": 0.1, "steps": 1}
K = np.eye(3)


def lm():
    return BidirectionalLM(5, width=8, seed=0)


def frozen():
    return lm().requires_grad_(False)


def undefined():
    network = nn.Linear(3, 2)
    nn.init.constant_(network.weight, torch.nan)
    return network


def of(network, tokens=TOKENS, read=None, **options):
    return tangent_kernel(network, tokens, read=read or ClozeHead([0, 1]), **options)


def tuned(network=None, inputs=X, labels=Y, **options):
    return fine_tune(network or nn.Linear(3, 2), inputs, labels, **ONE_STEP | options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: of(lm().bfloat16()), "expected float32 or float64, got torch.bfloat16"),
        (lambda: of(frozen(), parameters=LowRank(2)), "parameters of rank r: expected parameters that"),
        (lambda: of(frozen(), parameters=RandomProjection(2)), "parameters to project: expected parameters that"),
        (lambda: tuned(frozen(), TOKENS, read=ClozeHead([0, 1])), "expected parameters that require gradients"),
        (lambda: of(lm(), TOKENS + 3), "the network: expected what it takes, got IndexError"),
        (lambda: of(lm(), TOKENS.float()), "torch.float32 to the network: expected what it takes, got RuntimeError"),
        (lambda: of(lm(), TOKENS[0]), "expected what it takes, got IndexError"),
        (lambda: of(lm(), read=LinearReadout(9)), "expected what it takes, got RuntimeError: mat1 and mat2"),
        (lambda: of(lm(), read="cloze"), "read: expected a function of the module and inputs, got str"),
        (lambda: tangent_kernel(nn.Linear(3, 2), X[:, :2]), "expected what it takes"),
        (lambda: tangent_kernel(nn.Linear(3, 2), X * torch.nan), "inputs: expected finite numbers"),
        (lambda: tangent_kernel(undefined(), X), "scores of the network: expected finite numbers"),
        (lambda: of(lm(), memory="2GB"), "memory: expected a number of bytes above 0, got '2GB'"),
        (lambda: of(lm(), memory=float("nan")), "memory: expected a number of bytes above 0, got nan"),
        (lambda: ClozeHead(["yes", "no"]), "words: expected a rectangular array of numbers"),
        (lambda: ClozeHead([0.5, 1.0]), "word of a class: expected an integer"),
        (lambda: ClozeHead([0, 1], torch.zeros(8)), r"prompt: expected soft tokens \(L, width\), got shape \(8,\)"),
        (lambda: of(lm(), read=ClozeHead([0, 1], torch.zeros(2, 3))), r"prompt: expected soft tokens \(L, 8\)"),
        (lambda: LinearReadout.probed(lm(), TOKENS, Y[:3]), r"labels: expected shape \(6,\)"),
        (lambda: tuned(labels=[0, 1, None, 0, 1, 0]), r"labels\[2\]: expected a class, got None"),
        (lambda: tuned(labels=[0, 1, np.nan, 0, 1, 0]), r"labels\[2\]: expected a class"),
        (lambda: tuned(labels=[[0], [1, 2], 0, 0, 0, 0]), "labels: expected .* lists of different lengths"),
        (lambda: linearization_score(tuned(), X, ["a"] * 6), "labels: expected classes of fine-tuning: 0, 1, got a"),
        (lambda: label_kernel([[0], [1, 2]]), r"labels: expected shape \(N,\)"),
        (lambda: KernelRegression("x").fit(K, [0, 0, 1]), "penalty: expected a number"),
        (lambda: KernelRegression(np.nan).fit(K, [0, 0, 1]), "penalty: expected a number"),
        (lambda: KernelLogistic("x").fit(K, [0, 0, 1]), "C: expected a number"),
        (lambda: AsymmetricSVM(None).fit(K, [0, 0, 1]), "gamma: expected a number"),
        (lambda: KernelRegression().fit(K, [0, 0, 1], [0, 0, np.nan]), "offset: expected finite numbers"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
