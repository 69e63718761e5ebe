"""Expected counts in logarithms: derivatives that are right at exact zeros, however small P(x) is.

∂P(x)/∂A[i,j] = Σ_t P(rows before t, H_{t-1}=i) · row_t(j) · P(rows after t | H_t=j): a sum of products of forward and
backward messages. It never divides by A[i,j], so that zero is an entry as any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.algebra import LOG, log_sum_exp
from ppl_hmm.exact.backends.contract import Gradient
from ppl_hmm.exact.recursion import Chain, backward, forward, rows_by_time


@torch.no_grad()
def counts_in_logarithms(
    chain: Chain, log_factors: Float[Tensor, " P"], lengths: Int[Tensor, " P"] | None = None
) -> tuple[Gradient, Float[Tensor, " P"]]:
    """Return e^log_factor · ∂ log P(x) by the parameters of each model, or e^log_factor · ∂P(x) where P(x) = 0.

    And log P(x). Each model has one text and the rows of that text, numbered as they come; rows from a length on are
    those of the mask, and not counted. Only the terms of the sums leave
    logarithms, so that an entry is wrong by rounding alone, and inf where it is larger than any float.
    Cost O(T·K²) time for each model, O(T·K) memory.
    """
    law = LOG.represent(chain.initial)[:, None]
    before, predicted, log_before = [law], [], [torch.zeros_like(law[..., :1])]
    for prediction, law, total in forward(LOG, chain):
        predicted.append(prediction)
        before.append(law)
        log_before.append(log_before[-1] + total)
    possible = log_before[-1] > -torch.inf
    log_factors = log_factors[:, None, None]

    def scale(joint: Tensor, log_scales: Tensor) -> Tensor:
        """Return the logarithm of what the products of a step's laws are multiplied by."""
        return log_factors + torch.where(possible, -log_sum_exp(joint, -1, keepdim=True), log_scales)

    likelihood = rows_by_time(LOG.represent(chain.table), chain.ids)
    of_rows, of_moves = torch.zeros_like(chain.table), torch.zeros_like(chain.transition)
    message, log_after = before[0], torch.zeros_like(log_factors)
    for t, (message, total) in zip(range(chain.ids.shape[-1] - 1, -2, -1), backward(LOG, chain), strict=True):
        log_after = log_after + total
        if t < 0:
            break
        after = message + likelihood(t)
        factor = scale(predicted[t] + after, log_before[t] + log_after)
        if lengths is not None:
            factor = torch.where(t < lengths[:, None, None], factor, -torch.inf)
        of_rows[:, t] = (predicted[t] + message + factor).exp()[:, 0]
        of_moves += (before[t].mT + (after + factor)).exp()
    gradient = Gradient((message + scale(before[0] + message, log_after)).exp()[:, 0], of_moves, of_rows)
    return gradient, log_before[-1][:, 0, 0]


def require_numbers(gradient: Mapping[str, Tensor]) -> None:
    """Raise where an entry of a gradient is inf − inf: sequences of weights of both signs, each beyond any float."""
    for name, part in gradient.items():
        if part.isnan().any():
            model, *entry = part.isnan().nonzero()[0].tolist()
            raise InvalidInput(
                f"derivative of the log-likelihood by {name}{entry} of model {model}",
                f"terms within {torch.finfo(part.dtype).max:.1e}",
                "inf − inf",
                "differentiate the texts one at a time, or hold that entry constant",
            )
