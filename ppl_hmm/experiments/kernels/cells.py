"""What the experiment computes for one network."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from ppl_hmm import schema
from ppl_hmm.base.randomness import CPU, derived_seed, generator
from ppl_hmm.errors import InvalidInput
from ppl_hmm.experiments.engine.grid import Cell
from ppl_hmm.experiments.kernels.configuration import NETWORK, KernelView
from ppl_hmm.fine_tuning.alignment import kernel_alignment, label_kernel
from ppl_hmm.fine_tuning.dynamics import explained, kernel_distance
from ppl_hmm.fine_tuning.exact import fisher_kernel, posterior_kernel
from ppl_hmm.fine_tuning.functions import ReadNetwork, ScoreFunction
from ppl_hmm.fine_tuning.kernel import Kind, kernel_of, kernels_of
from ppl_hmm.fine_tuning.readouts import ClozeHead, LinearReadout, words_for
from ppl_hmm.fine_tuning.regression import AsymmetricSVM, KernelClassifier, KernelRegression
from ppl_hmm.fine_tuning.subspaces import LowRank, Parameters, RandomProjection
from ppl_hmm.fine_tuning.training import Diverged, FineTuning, Optimizer, fine_tune
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.bidirectional import BidirectionalLM
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.language_models.trained_masked import TrainedMaskedLM
from ppl_hmm.language_models.training import Training, train
from ppl_hmm.language_models.transformer import TransformerLM
from ppl_hmm.models import HMM
from ppl_hmm.regimes import random_hmm
from ppl_hmm.regimes.tasks import random_task
from ppl_hmm.tasks import MemoryTask, PosteriorTask, latent_posterior

#: The kernel that each optimiser's first steps follow, and what regresses on it.
KIND_OF: dict[str, Kind] = {"sgd": "sgd", "sign": "asymmetric-sign", "adam": "sign"}
_SOLVERS: dict[Kind, KernelClassifier] = {
    "sgd": KernelRegression(penalty=0.01),
    "sign": KernelRegression(penalty=0.01),
    "asymmetric-sign": AsymmetricSVM(gamma=10.0),
}
RANKS, PROJECTIONS = (1, 2, 4, 8, 16, 32), (10, 100, 400)
_SUBSPACE_SHOTS = 16  # examples of each class that subspaces are compared on, at most
_POOL = 2000  # labelled texts that few-shot examples are drawn from


class Data(NamedTuple):
    """A task: texts to draw from, those to test on, and the words that tell its classes."""

    task: PosteriorTask | MemoryTask
    tokens: Tensor  # (pool,T)
    labels: Tensor
    test: Tensor  # (N,T)
    test_labels: np.ndarray
    words: list[int]

    @classmethod
    def draw(cls, model: HMM, settings: KernelView, number: int) -> Data:
        """Return the task of a number, its texts, and the two tokens whose exact laws at the mask tell it best."""
        text = sample(model, _POOL + settings.n_test, settings.length, derived_seed(number, "texts")).tokens
        task = random_task(model, derived_seed(number, "kernel view"), text)
        labels = task.labels(latent_posterior(model, task, text))
        words = words_for(probe_features(OracleLM(model), text[:_POOL]), labels[:_POOL])
        return cls(task, text[:_POOL], labels[:_POOL], text[_POOL:], labels[_POOL:].numpy(), words)

    def few(self, shots: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return ``shots`` examples of each class, or as many as there are."""
        order = torch.randperm(len(self.labels), generator=generator(seed, "few shots"), device=CPU)
        chosen = torch.cat([order[self.labels[order] == c][:shots] for c in (0, 1)])
        return self.tokens[chosen], self.labels[chosen]


_NETWORKS = {
    schema.BIDIRECTIONAL: lambda sizes, width: BidirectionalLM(sizes.vocabulary_size, width=width, seed=0),
    schema.TRANSFORMER: lambda sizes, width: TransformerLM(
        sizes.vocabulary_size, width, longest=sizes.length_with_mask, seed=0
    ),
}
#: The weights of the words' scores at the mask; those of a transformer are its embeddings as well.
_OF_SCORES = {
    BidirectionalLM: "lm.join.out.weight",
    TransformerLM: "lm.network.cls.predictions.decoder.weight",
}


class Network(NamedTuple):
    """A model, and a network that was trained on its text."""

    model: HMM
    training: Training

    @classmethod
    @functools.lru_cache(maxsize=4)
    def trained(
        cls,
        settings: KernelView,
        regime: str,
        n_states: int,
        architecture: str,
        width: int,
        objective: str,
        steps: int,
    ) -> Network:
        """Return the network of a point of the grid, once for all seeds in a process."""
        model = random_hmm(regime, n_states, settings.vocabulary_size, n_states)
        lm = _NETWORKS[architecture](settings, width)
        options = {"length": settings.length_with_mask, "learning_rate": settings.learning_rate}
        return cls(model, train(lm, model, objective=objective, steps=steps, seed=0, **options))


def compute(settings: KernelView, cell: Cell) -> xr.Dataset:
    """Return the columns of one network, by task and seed."""
    network, tasks = Network.trained(settings, *(cell[name] for name in NETWORK)), list(range(settings.n_tasks))
    of_tasks = [_of_task(settings, network, task, cell.seeds) for task in tasks]
    return xr.concat(of_tasks, xr.DataArray(tasks, dims=schema.TASK, name=schema.TASK))


def _of_task(settings: KernelView, network: Network, task: int, seeds: Sequence[int]) -> xr.Dataset:
    """Return the columns of one task of a network."""
    model, training = network
    data = Data.draw(model, settings, task)
    last = training.log.isel({schema.STEP: -1})
    each: list[xr.Dataset] = []
    for seed in seeds:
        of_shots = [_of_draw(settings, model, training.lm, data, seed, k) for k in settings.shots]
        found = xr.concat(of_shots, xr.DataArray(list(settings.shots), dims=schema.SHOTS, name=schema.SHOTS))
        found = found.merge(_of_subspaces(training.lm, data, seed, min(*settings.shots, _SUBSPACE_SHOTS)))
        found[schema.MAJORITY] = max(data.test_labels.mean(), 1 - data.test_labels.mean())
        each.append(found.assign({name: last[name].item() for name in ("excess_at_read_position", "total_variation")}))
    return xr.concat(each, xr.DataArray(list(seeds), dims=schema.SEED, name=schema.SEED))


def _of_draw(settings: KernelView, model: HMM, lm: TrainedMaskedLM, data: Data, seed: int, shots: int) -> xr.Dataset:
    """Return what few-shot examples lead to, of all heads."""
    tokens, labels = data.few(shots, seed)
    heads = {
        "cloze": ClozeHead(data.words),
        "fresh": LinearReadout(lm.width, seed=seed),
        "probed": LinearReadout.probed(lm, tokens, labels),
    }
    exact = {"fisher": fisher_kernel(model, tokens), "posterior": posterior_kernel(model, tokens, task=data.task)}
    exact["labels"] = label_kernel(labels)
    by_head = [_of_head(settings, lm, head, data, tokens, labels, exact) for head in heads.values()]
    found = xr.concat(by_head, xr.DataArray(list(heads), dims=schema.READOUT, name=schema.READOUT))
    rows = {
        "fisher": fisher_kernel(model, data.test, tokens),
        "posterior": posterior_kernel(model, data.test, tokens, task=data.task),
    }
    solver = _SOLVERS["sgd"]
    accuracy = [solver.fit(exact[name], labels.numpy()).score(rows[name], data.test_labels) for name in rows]
    found["exact_accuracy"] = xr.DataArray(accuracy, {schema.EXACT_KERNEL: list(rows)}, schema.EXACT_KERNEL)
    return found


def _of_head(
    settings: KernelView,
    lm: nn.Module,
    head: nn.Module,
    data: Data,
    tokens: Tensor,
    labels: Tensor,
    exact: dict[str, Tensor],
) -> xr.Dataset:
    """Return kernels and fine-tuning of one head."""
    function, n = ScoreFunction.of(lm, head, "all"), len(tokens)
    both = torch.cat([tokens, data.test])
    before = function.scores(function.space.start, both).numpy()
    kernels = kernels_of(function, both, tokens, list(_SOLVERS))
    kernel_accuracy, alignment = [], []
    for kind, solver in _SOLVERS.items():
        rows = kernels[kind].double().numpy()
        solver.fit(rows[:n], labels.numpy(), before[:n])
        kernel_accuracy.append(np.mean(solver.predict(rows[n:], before[n:]) == data.test_labels))
        alignment.append([_alignment(rows[:n], target) for target in exact.values()])
    size = torch.linalg.eigvalsh(kernels["sgd"][:n].double())[-1].item() / n
    of_sgd = settings.sgd_rate / size
    rates: dict[Optimizer, float] = {"sgd": of_sgd, "sign": settings.sign_rate, "adam": settings.adam_rate}
    accuracy, r2, distance = [], [], []
    for optimizer, rate in rates.items():
        run = _fine_tuned(settings, lm, head, tokens, labels, optimizer, rate)
        scores = run.scores_before(data.test), run.linear_scores(data.test), run.scores(data.test)
        accuracy.append([_accuracy(run, each, data) for each in scores])
        r2.append(explained(*scores))
        distance.append(kernel_distance(run, tokens[:: max(n // 32, 1)], KIND_OF[optimizer]))
    return xr.Dataset(
        {
            schema.ACCURACY: ((schema.OPTIMIZER, schema.STAGE), accuracy),
            schema.R2: (schema.OPTIMIZER, r2),
            schema.DISTANCE: (schema.OPTIMIZER, distance),
            "kernel_accuracy": (schema.KERNEL, kernel_accuracy),
            "alignment": ((schema.KERNEL, schema.TARGET), alignment),
        },
        coords={
            schema.OPTIMIZER: list(rates),
            schema.STAGE: list(schema.STAGES),
            schema.KERNEL: list(_SOLVERS),
            schema.TARGET: list(exact),
        },
    )


def _fine_tuned(
    settings: KernelView,
    lm: nn.Module,
    head: nn.Module,
    tokens: Tensor,
    labels: Tensor,
    optimizer: Optimizer,
    rate: float,
) -> FineTuning:
    """Return fine-tuning at a rate, or at the first half of it, quarter, … that does not diverge."""
    options = {"read": head, "optimizer": optimizer, "steps": settings.steps}
    try:
        return fine_tune(lm, tokens, labels, learning_rate=rate, **options)
    except Diverged:
        return _fine_tuned(settings, lm, head, tokens, labels, optimizer, rate / 2)


def _alignment(kernel: np.ndarray, target: Tensor) -> float:
    """Return the alignment, missing where one does not vary: after little training all gradients have equal signs."""
    try:
        return kernel_alignment(kernel, target)
    except InvalidInput:
        return float("nan")


def _accuracy(run: FineTuning, scores: Tensor, data: Data) -> float:
    return float(np.mean(run.classify(scores) == data.test_labels))


def _of_subspaces(lm: TrainedMaskedLM, data: Data, seed: int, shots: int) -> xr.Dataset:
    """Return how far the cloze head's kernel is preserved by low-rank updates and by random projections."""
    tokens, _ = data.few(shots, seed)
    head = ClozeHead(data.words)

    def within(parameters: Parameters) -> Tensor:
        return kernel_of(ScoreFunction.of(lm, head, parameters), tokens, None, "sgd").double()

    full = within("all")
    of_matrices = within(list(LowRank(1).of(ReadNetwork(lm, head)).start))
    low_rank = []
    for rank in RANKS:
        found, with_embeddings = within(LowRank(rank, seed)), within(LowRank(rank, seed, embeddings=True))
        with_scores = within(LowRank(rank, seed, full=[_OF_SCORES[type(lm)]]))
        pairs = (found, of_matrices), (found, full), (with_embeddings, full), (with_scores, full)
        low_rank.append([_alignment(kernel.numpy(), wanted) for kernel, wanted in pairs])
    projected = [within(RandomProjection(n_dimensions, seed)) for n_dimensions in PROJECTIONS]
    size = full.square().sum()
    return xr.Dataset(
        {
            "low_rank_alignment": ((schema.RANK, schema.COMPARISON), low_rank),
            "projection_distance": (
                schema.N_DIMENSIONS,
                [((each - full).square().sum() / size).sqrt().item() for each in projected],
            ),
            "projection_expected": (
                schema.N_DIMENSIONS,
                [((full.trace() ** 2 / size + 1) / d).sqrt().item() for d in PROJECTIONS],
            ),
        },
        coords={
            schema.RANK: list(RANKS),
            schema.COMPARISON: [
                schema.SAME_MATRICES,
                schema.ALL_PARAMETERS,
                schema.EMBEDDINGS_TOO,
                schema.SCORES_IN_FULL,
            ],
            schema.N_DIMENSIONS: list(PROJECTIONS),
        },
    )
