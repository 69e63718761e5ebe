"""The perfect causal language model of an HMM, with or without memory: its exact next-token laws."""

from __future__ import annotations

from torch import Tensor

from ppl_hmm.inference.beliefs import beliefs, law_after
from ppl_hmm.inference.rows import require_kind
from ppl_hmm.inference.suffixes import Suffix
from ppl_hmm.language_models.exact import ExactLM
from ppl_hmm.models.kinds import Model, Prompt, Text


class CausalOracleLM(ExactLM):
    """Exact causal language model of ``model``, or of a batch of models P….

    P(X_{t+1} | x_1..x_t) = WᵀAᵀα_t with the belief α_t = P(H_t | x_1..x_t). Soft tokens are likelihood rows,
    non-negative: (K,), or (m,K) for a :class:`~ppl_hmm.MemoryHMM`.

    See Also
    --------
    ppl_hmm.CausalLM : What every causal language model offers.
    ppl_hmm.next_token_features : Features for heads.
    ppl_hmm.beliefs : The laws of the states behind it.
    ppl_hmm.OracleLM : The masked language model of the same model.

    Examples
    --------
    >>> from ppl_hmm import HMM, CausalOracleLM
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> lm = CausalOracleLM(model)
    >>> lm.next_token_laws([[0, 1]])[0].numpy().round(3)  # before any token, after the first, after the second
    array([[0.43 , 0.57 ],
           [0.596, 0.404],
           [0.478, 0.522]])
    """

    def __init__(self, model: Model) -> None:
        require_kind("model of a CausalOracleLM", model)
        self.model = model

    def next_token_laws(self, tokens: Text, *, prompt: Prompt | None = None, lengths: Text | None = None) -> Tensor:
        """Return P(X_{t+1} | x_1..x_t) (P…,B,T+1,V), zeros for impossible prefixes; errors as of ``beliefs``.

        Differentiable in the model's parameters and the prompt.
        """
        return beliefs(self.model, tokens, prompt=prompt, lengths=lengths, impossible="mask").next_token

    def law_after(
        self,
        tokens: Text,
        *,
        prompt: Prompt | None = None,
        suffix: Suffix | None = None,
        lengths: Text | None = None,
    ) -> Tensor:
        """Return the law (P…,B,V) of the token after text and suffix, zeros where it is impossible.

        Differentiable in the model's parameters, the prompt and the suffix.
        """
        return law_after(self.model, tokens, prompt=prompt, suffix=suffix, lengths=lengths, impossible="mask")
