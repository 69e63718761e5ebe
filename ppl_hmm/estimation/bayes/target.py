"""The posterior of a model's laws given texts: its density, its expected counts, and counts of drawn paths."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.estimation.bayes.prior import DirichletPrior, Laws
from ppl_hmm.estimation.texts import Batch, WeightedTexts
from ppl_hmm.exact import mixture
from ppl_hmm.exact.augmentation import draw_memory_counts
from ppl_hmm.exact.baum_welch import MemoryCounts, expected_counts, expected_counts_of_memories
from ppl_hmm.exact.mixture import MemoryText


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
    _own_texts: dict[int, tuple[Batch, ...]] = dataclasses.field(default_factory=dict, init=False, repr=False)

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
        total = torch.zeros(len(laws["initial"]), dtype=torch.float64, device=CPU)
        summed = {name: torch.zeros_like(laws[name]) for name in self.fields}
        for batch in self.texts.batches:
            text = self.text(laws, batch)
            log_evidence, counts = _expected(text, batch)
            total = total + (batch.weights * log_evidence).sum(-1)
            _add(summed, self._laws(counts))
        return summed, total

    def path_counts(self, laws: Laws, generator: torch.Generator) -> tuple[Laws, Tensor]:
        """Return numbers of uses along one path drawn for each text given the laws, and the log-evidence (C,) in nats.

        Each text has a path of its own, whether or not another one equals it.
        """
        total = torch.zeros(len(laws["initial"]), dtype=torch.float64, device=CPU)
        summed = {name: torch.zeros_like(laws[name]) for name in self.fields}
        for batch in self._each_text(len(total)):
            text = self.text(laws, batch)
            log_evidence, counts = draw_memory_counts(text, batch.lengths, generator)
            total = total + log_evidence.sum(-1)
            _add(summed, self._laws(counts))
        return summed, total

    def _each_text(self, n_chains: int) -> tuple[Batch, ...]:
        """Return the texts, each as often as it was given, copied once for each chain: no draw copies them again."""
        if n_chains not in self._own_texts:
            self._own_texts[n_chains] = tuple(_repeated(batch, n_chains) for batch in self.texts.batches)
        return self._own_texts[n_chains]

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


def _add(total: Laws, part: Laws) -> None:
    for name, counts in part.items():
        total[name] += counts


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


def _expected(text: MemoryText, batch: Batch) -> tuple[Tensor, MemoryCounts]:
    """Return log P(x_b) (C,B) and expected counts: where there is one memory only, by one pass each way."""
    weights, lengths = (each.expand(text.ids.shape[:2]) for each in (batch.weights, batch.lengths))
    if text.n_memories > 1:
        return expected_counts_of_memories(text, weights, lengths)
    log_evidence, counts = expected_counts(text.only_chain, weights, lengths)
    held = weights.sum(-1)[:, None, None].expand(text.memory_prior.shape)
    return log_evidence, MemoryCounts(held, counts.initial, counts.transition, counts.emission[:, None])
