"""The posterior of a model's laws given texts: its density, its expected counts, and counts of drawn paths."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.estimation.bayes.prior import DirichletPrior, Laws
from ppl_hmm.estimation.texts import Batch, WeightedTexts
from ppl_hmm.exact import mixture
from ppl_hmm.exact.augmentation import draw_memory_counts
from ppl_hmm.exact.baum_welch import MemoryCounts, expected_counts, expected_counts_of_memories
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.exact.recursion import Chain


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """The posterior p(laws | texts) ∝ p(laws) · ∏_b P(x_b | laws)^(weight_b).

    Attributes
    ----------
    texts
        Texts (B,T), shared by all chains; the rows of its batches may also be (C,B,T), a text of its own for each
        chain.
    prior
        Of all laws.
    cell_of_state
        (K,): the memory cell that each state reads; None without a memory.
    """

    texts: WeightedTexts
    prior: DirichletPrior
    cell_of_state: Tensor | None = None
    _own_texts: dict[tuple[int, Callable[[Batch, int], Batch]], tuple[Batch, ...]] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the laws."""
        return tuple(self.prior.concentrations)

    def log_evidence(self, laws: Laws) -> Tensor:
        """Return Σ_b weight_b log P(x_b | laws) (C,) in nats."""
        total = torch.zeros(len(laws["initial"]), dtype=torch.float64, device=CPU)
        for batch in self.texts.batches:
            log_joint = mixture.log_joint_memory(self.text(laws, batch))
            total = total + (batch.weights * log_joint.logsumexp(-1)).sum(-1)
        return total

    def log_density(self, laws: Laws) -> Tensor:
        """Return log p(laws) + log P(texts | laws) (C,) in nats."""
        return self.prior.log_density(laws) + self.log_evidence(laws)

    def counts(self, laws: Laws) -> tuple[Laws, Tensor]:
        """Return expected numbers of uses of each entry given the texts, and the log-evidence (C,) in nats.

        Over the entry, a count is the derivative of the log-evidence.
        """
        parts = [self._expected(laws, batch) for batch in self._copied(len(laws["initial"]), _side_by_side)]
        return {name: _total(counts[name] for counts, _ in parts) for name in self.fields}, _total(e for _, e in parts)

    def path_counts(self, laws: Laws, generator: torch.Generator) -> tuple[Laws, Tensor]:
        """Return numbers of uses along one path drawn for each text given the laws, and the log-evidence (C,) in nats.

        Each text has a path of its own, whether or not another one equals it.
        """
        total = torch.zeros(len(laws["initial"]), dtype=torch.float64, device=CPU)
        summed = {name: torch.zeros_like(laws[name]) for name in self.fields}
        for batch in self._copied(len(total), _repeated):
            text = self.text(laws, batch)
            log_evidence, counts = draw_memory_counts(text, batch.lengths, generator)
            total = total + log_evidence.sum(-1)
            for name, part in self._laws(counts).items():
                summed[name] += part
        return summed, total

    def _copied(self, n_chains: int, copy: Callable[[Batch, int], Batch]) -> tuple[Batch, ...]:
        """Return the texts, copied once for each chain: no later call copies them again."""
        if (n_chains, copy) not in self._own_texts:
            self._own_texts[n_chains, copy] = tuple(copy(batch, n_chains) for batch in self.texts.batches)
        return self._own_texts[n_chains, copy]

    def _expected(self, laws: Laws, batch: Batch) -> tuple[Laws, Tensor]:
        """Return expected counts and the log-evidence (C,) of a batch; without a memory, by one pass each way."""
        if self.cell_of_state is not None:
            text = self.text(laws, batch)
            log_evidence, counts = expected_counts_of_memories(text, batch.weights, batch.lengths)
            return self._laws(counts), (batch.weights * log_evidence).sum(-1)
        table = torch.nn.functional.pad(laws["emission"], (0, 1), value=1.0).mT
        chain = Chain(laws["initial"], laws["transition"], table, batch.ids)
        log_evidence, of_chain = expected_counts(chain, batch.weights, batch.lengths)
        found = {**of_chain._asdict(), "emission": of_chain.emission[:, :-1].mT}
        return found, (batch.weights * log_evidence).sum(-1)

    def text(self, laws: Laws, batch: Batch) -> MemoryText:
        """Return a batch of texts as rows of the tables of these laws."""
        initial, emission = laws["initial"], laws["emission"]
        n_chains, n_states = initial.shape
        if self.cell_of_state is None:
            emission, memory_prior = emission[:, None], initial.new_ones(n_chains, 1, 1)
            cells = torch.zeros(n_chains, n_states, dtype=torch.int64, device=CPU)
        else:
            memory_prior, cells = laws["memory_prior"], self.cell_of_state.expand(n_chains, -1)
        rows = emission.mT
        table = torch.cat([rows, torch.ones_like(rows[..., :1, :])], -2)
        ids = batch.ids.expand(n_chains, -1, -1)
        return MemoryText(memory_prior, cells, initial, laws["transition"], table, ids)

    def _laws(self, counts: MemoryCounts) -> Laws:
        """Return counts by name and in the shape of the laws."""
        by_value = counts.emission[:, :, :-1].mT
        emission = by_value[:, 0] if self.cell_of_state is None else by_value
        found = {**counts._asdict(), "emission": emission}
        return {name: found[name] for name in self.fields}


def _total(parts: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, parts)


def _side_by_side(batch: Batch, n_chains: int) -> Batch:
    """Return texts once for each chain, or each chain's own as they are: ids (C,B,T), lengths and weights (C,B)."""
    ids = batch.ids.expand(n_chains, *batch.ids.shape[-2:])
    lengths, weights = (each.expand(ids.shape[:2]) for each in (batch.lengths, batch.weights))
    return Batch(ids.contiguous(), lengths.contiguous(), weights.contiguous(), batch.numbers)


def _repeated(batch: Batch, n_chains: int) -> Batch:
    """Return each text as often as its weight says, for each chain: ids (C,B,T), lengths (C,B)."""
    times = batch.weights.long()
    ids, lengths = batch.ids.expand(n_chains, -1, -1), batch.lengths.expand(n_chains, -1)
    return Batch(
        ids.repeat_interleave(times, 1).contiguous(),
        lengths.repeat_interleave(times, 1).contiguous(),
        torch.ones(int(times.sum()), dtype=torch.float64, device=CPU),
        batch.numbers.repeat_interleave(times),
    )
