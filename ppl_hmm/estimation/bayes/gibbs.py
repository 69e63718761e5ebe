"""Gibbs sampling of a model's laws: draw paths given the laws, and the laws given what the paths count."""

from __future__ import annotations

import torch

from ppl_hmm import schema
from ppl_hmm.estimation.bayes.prior import Laws
from ppl_hmm.estimation.bayes.sampler import Block, State, restored_stream, saved_stream
from ppl_hmm.estimation.bayes.target import Target

#: Entries below this are zero to the draw of a path, which can tell at probability 1e-30 a step; smaller ones would
#: come near underflow, and each pass would turn to logarithms.
NEGLIGIBLE = 1e-30
_STREAM = "stream"


class GibbsSampler:
    r"""The conjugate sampler: chains side by side, each step exact, nothing to tune.

    A draw takes laws from Dirichlet(α + counts) for each row, then paths :math:`P(H_0..H_T \mid x_b)` of all texts,
    which give the next counts. Cost O(C·B·T·K²) a draw, m^N times that with a memory. Source: Scott (2002).
    """

    def start(self, target: Target, laws: Laws, stream: torch.Generator) -> State:
        """Draw paths given laws (C,…)."""
        counts, _ = target.path_counts(_read(laws), stream)
        return {**counts, _STREAM: saved_stream(stream)}

    def advance(self, target: Target, state: State, n: int, tuning: bool) -> tuple[State, Block]:  # noqa: ARG002
        """Return the state after n draws of each chain, and the draws."""
        counts = {name: state[name] for name in target.fields}
        stream = restored_stream(state[_STREAM])
        draws, log_evidences = [], []
        for _ in range(n):
            laws = target.prior.draw_given(counts, stream)
            counts, log_evidence = target.path_counts(_read(laws), stream)
            draws.append(laws)
            log_evidences.append(log_evidence)
        drawn = {name: torch.stack([each[name] for each in draws], 1) for name in target.fields}
        log_evidence = torch.stack(log_evidences, 1)
        log_prior = torch.stack([target.prior.log_density(each) for each in draws], 1)
        statistics = {schema.LP: log_evidence + log_prior}
        return {**counts, _STREAM: saved_stream(stream)}, Block(drawn, statistics)


def _read(laws: Laws) -> Laws:
    """Return laws as paths read them, without negligible entries."""
    return {name: torch.where(law < NEGLIGIBLE, 0, law) for name, law in laws.items()}
