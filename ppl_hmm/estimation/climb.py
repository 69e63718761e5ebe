"""Many restarts of expectation-maximisation side by side, on plain arrays, until each stops gaining."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Generic, NamedTuple, NoReturn, cast

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import ImpossibleText
from ppl_hmm.estimation.priors import Pseudocounts
from ppl_hmm.estimation.texts import Batch, WeightedTexts
from ppl_hmm.exact.baum_welch import (
    Counts,
    LawsT,
    expected_counts,
    expected_counts_of_memories,
    most_likely_law,
)
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.exact.recursion import Chain

#: Step n of minibatch EM moves the statistics by (n + 2)^(−this) (Liang & Klein 2009).
_DECAY = 0.7


class Climb(NamedTuple, Generic[LawsT]):
    """Where R restarts came to."""

    parameters: LawsT  # of each restart, those whose evidence is the last
    log_likelihood: Tensor  # (iterations,R), float64; a restart that has stopped keeps its last
    log_posterior: Tensor  # (iterations,R): with the log prior
    iterations: Tensor  # (R,)
    converged: Tensor  # (R,)


@dataclasses.dataclass(frozen=True)
class Objective(Generic[LawsT]):
    """What is climbed: the evidence of texts, and a prior.

    Attributes
    ----------
    cell_of_state
        (K,): the memory cell that each state reads, of models with a memory.
    """

    texts: WeightedTexts
    prior: Pseudocounts[LawsT] | None
    fixed: frozenset[str]
    backend: str | None
    cell_of_state: Tensor | None = None

    def counts(self, parameters: LawsT, batches: Sequence[Batch]) -> tuple[Tensor, LawsT]:
        """Return Σ_b weight_b log P(x_b) (R,) in float64, and expected counts, of some batches."""
        table = torch.cat([parameters.emission, torch.ones_like(parameters.emission[..., :1, :])], -2)
        n_models = len(table)
        evidence = torch.zeros(n_models, dtype=torch.float64, device=table.device)
        parts: list[LawsT] = []
        for batch in batches:
            ids = batch.ids.expand(n_models, -1, -1)
            weights, lengths = (each.expand(n_models, -1) for each in (batch.weights.to(table.dtype), batch.lengths))
            log_evidence, counts = self._expected(parameters._replace(emission=table), ids, weights, lengths)
            possible = log_evidence > -torch.inf
            if not possible.all():
                model, sequence = (~possible).nonzero()[0].tolist()
                _refuse_impossible(model, int(batch.numbers[sequence]))
            evidence = evidence + (batch.weights * log_evidence.double()).sum(1)
            parts.append(counts)
        total = parameters._make(functools.reduce(torch.add, each) for each in zip(*parts, strict=True))
        return evidence, total._replace(emission=total.emission[..., :-1, :])

    def _expected(self, laws: LawsT, ids: Tensor, weights: Tensor, lengths: Tensor) -> tuple[Tensor, LawsT]:
        """Return log P(x_b) (R,B) of row numbers (R,B,T), and expected counts; the last row is the mask's."""
        if isinstance(laws, Counts):
            chain = Chain(laws.initial, laws.transition, laws.emission, ids)
            return expected_counts(chain, weights, lengths, backend=self.backend)
        cells = cast(Tensor, self.cell_of_state).expand_as(laws.initial)
        text = MemoryText(laws.memory_prior, cells, laws.initial, laws.transition, laws.emission, ids)
        return expected_counts_of_memories(text, weights, lengths, backend=self.backend)

    def log_posterior(self, log_likelihood: Tensor, parameters: LawsT) -> Tensor:
        """Return the evidence times the prior density, in logarithms, up to a constant."""
        return log_likelihood if self.prior is None else log_likelihood + self.prior.log_density(parameters)

    def maximise(self, counts: LawsT, parameters: LawsT) -> LawsT:
        """Return the parameters that the counts make most likely; fixed ones, and zeros, stay."""
        counts = counts if self.prior is None else self.prior.added(counts, parameters)
        laws = zip(parameters._fields, counts, parameters, strict=True)
        return parameters._make(
            old if name in self.fixed else most_likely_law(new, old, dimension_of(name)) for name, new, old in laws
        )


def dimension_of(name: str) -> int:
    """Return the dimension over which the laws of a name sum to one: tokens come before states."""
    return -2 if name == "emission" else -1


def climb(objective: Objective[LawsT], start: LawsT, max_iterations: int, tolerance: float) -> Climb[LawsT]:
    """Iterate until an iteration gains less than ``tolerance`` nats; each restart stops by itself.

    An iteration costs O(R·B·T·K²) for the R restarts that still climb.
    """
    best, current = start._make(each.clone() for each in start), start
    climbing = torch.arange(len(start.initial), device=CPU)
    traces: list[tuple[Tensor, Tensor]] = []  # log-likelihoods and log-posteriors (R,)
    iterations = torch.zeros(len(climbing), dtype=torch.int64, device=CPU)
    converged = torch.zeros(len(climbing), dtype=torch.bool, device=CPU)
    for number in range(max_iterations):
        evidence, counts = objective.counts(current, objective.texts.batches)
        reached = objective.log_posterior(evidence, current)
        iterations[climbing] += 1
        before = traces[-1] if traces else (torch.zeros_like(converged, dtype=torch.float64),) * 2
        traces.append((_replaced(before[0], climbing, evidence), _replaced(before[1], climbing, reached)))
        stops = (reached.cpu() - before[1][climbing] < tolerance) if number else torch.zeros_like(converged)
        converged[climbing] = stops
        last = stops | (number == max_iterations - 1)
        if last.any():
            _write(best, climbing[last], _of(current, last))
            counts, current, climbing = _of(counts, ~last), _of(current, ~last), climbing[~last]
        if not len(climbing):
            break
        current = objective.maximise(counts, current)
    return Climb(best, *_stacked(traces), iterations, converged)


def climb_online(
    objective: Objective[LawsT], start: LawsT, max_iterations: int, tolerance: float, stream: torch.Generator
) -> Climb[LawsT]:
    """Step after each batch, by a moving average of expected counts; an iteration goes once through the texts.

    Statistics s ← (1 − γ_n) s + γ_n ŝ, γ_n = (n + 2)^(−0.7), where ŝ are the counts of batch n scaled to all texts. The
    evidence of an iteration is that of each batch before its step; the last one that of the result. It may fall.
    Source: Cappé & Moulines (2009); Liang & Klein (2009).
    """
    batches, current, statistics, n_steps = objective.texts.batches, start, None, 0
    shares = [float(batch.weights.sum()) for batch in batches]
    traces: list[tuple[Tensor, Tensor]] = []
    converged = torch.zeros(len(start.initial), dtype=torch.bool, device=CPU)
    for _ in range(max_iterations - 1):
        evidence = torch.zeros(len(start.initial), dtype=torch.float64, device=CPU)
        for number in torch.randperm(len(batches), generator=stream, device=CPU).tolist():
            of_batch, counts = objective.counts(current, [batches[number]])
            evidence += of_batch.cpu()
            scale, rate = sum(shares) / shares[number], (n_steps + 2) ** -_DECAY if n_steps else 1.0
            scaled = counts._make(scale * each for each in counts)
            statistics = scaled if statistics is None else _moved(statistics, scaled, rate)
            current, n_steps = objective.maximise(statistics, current), n_steps + 1
        traces.append((evidence, objective.log_posterior(evidence.to(start.initial.device), current).cpu()))
        if len(traces) > 1:
            converged = (traces[-1][1] - traces[-2][1]).abs() < tolerance
        if converged.all():
            break
    evidence, _ = objective.counts(current, batches)
    traces.append((evidence.cpu(), objective.log_posterior(evidence, current).cpu()))
    iterations = torch.full(converged.shape, len(traces), device=CPU)
    return Climb(current, *_stacked(traces), iterations, converged)


def _moved(statistics: LawsT, towards: LawsT, rate: float) -> LawsT:
    return statistics._make(old.lerp(new, rate) for old, new in zip(statistics, towards, strict=True))


def _replaced(values: Tensor, numbers: Tensor, new: Tensor) -> Tensor:
    return values.index_copy(0, numbers, new.cpu())


def _stacked(traces: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([evidence for evidence, _ in traces]), torch.stack([reached for _, reached in traces])


def _of(parameters: LawsT, chosen: Tensor) -> LawsT:
    return parameters._make(each[chosen.to(each.device)] for each in parameters)


def _write(parameters: LawsT, numbers: Tensor, values: LawsT) -> None:
    for each, part in zip(parameters, values, strict=True):
        each[numbers.to(each.device)] = part


def _refuse_impossible(model: int, sequence: int) -> NoReturn:
    raise ImpossibleText(
        f"text {sequence} under start {model}",
        "text of positive probability",
        "probability 0",
        "allow the moves or tokens that it needs: entries that are zero stay zero",
    )
