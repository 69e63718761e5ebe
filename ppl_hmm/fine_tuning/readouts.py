"""What a fine-tuned masked language model is read by: words at the mask (a cloze), or a linear head, fresh or probed.

Each reads the mask in front of text (B,T) of full length, as heads do, from a module that it is given; its own
parameters are tuned with that module's. Source: Malladi et al. (2023), §3: with and without a prompt.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.fine_tuning.classes import class_labels
from ppl_hmm.heads.logistic import fit_logistic
from ppl_hmm.language_models.bidirectional import BidirectionalLM
from ppl_hmm.language_models.transformer import TransformerLM

_FRESH_SCALE = 0.02  # standard deviation of a new head's weights, as of BERT


@functools.singledispatch
def hidden_at_mask(lm: Any, tokens: Tensor, prompt: Tensor | None = None) -> Tensor:  # noqa: ARG001
    """Return what a language model knows (B,width) of the token before text (B,T), after a soft prompt (L,width).

    By operations that ``torch.func.vmap`` can batch: tokens are not checked, and none may be ``MASK``.

    Raises
    ------
    InvalidInput
        A language model of another kind.
    """
    expected = "a BidirectionalLM or TransformerLM"
    raise InvalidInput("language model to fine-tune", expected, type(lm).__name__, "pass read=, a function of your own")


@hidden_at_mask.register
def _(lm: BidirectionalLM, tokens: Tensor, prompt: Tensor | None = None) -> Tensor:
    before = lm.left.start[-1][None] if prompt is None else lm.left.after(prompt[None])[-1]
    before = before.expand(len(tokens), -1)
    behind = lm.right(lm.embedded(tokens.flip(1)))[-1][:, -1]
    return lm.join.hidden(before, behind)


@hidden_at_mask.register
def _(lm: TransformerLM, tokens: Tensor, prompt: Tensor | None = None) -> Tensor:
    mask = lm.embedding.weight[-1].expand(len(tokens), 1, -1)
    before = mask[:, :0] if prompt is None else prompt.expand(len(tokens), -1, -1)
    inputs = torch.cat([before, mask, lm.embedded(tokens)], dim=1)
    lm.sizes.require_room(inputs.shape[1])
    return lm.network.bert(inputs_embeds=inputs).last_hidden_state[:, before.shape[1]]


@functools.singledispatch
def scores_of(lm: Any, hidden: Tensor) -> Tensor:
    """Return the scores (B,V) of tokens from what :func:`hidden_at_mask` returns."""
    raise NotImplementedError(type(lm))


@scores_of.register
def _(lm: BidirectionalLM, hidden: Tensor) -> Tensor:
    return lm.join.out(hidden)


@scores_of.register
def _(lm: TransformerLM, hidden: Tensor) -> Tensor:
    return lm.network.cls(hidden)[..., : lm.vocabulary_size]


class ClozeHead(nn.Module):
    """Reads the scores of a word for each class at the mask, after a soft prompt that is tuned as well.

    Parameters
    ----------
    words
        (C,): the token that stands for each class.
    prompt
        Soft tokens (L,width) before the mask, the parameter ``head.prompt``; none by default.

    Examples
    --------
    >>> from ppl_hmm import BidirectionalLM, tangent_kernel
    >>> from ppl_hmm.fine_tuning.readouts import ClozeHead
    >>> lm = BidirectionalLM(4, width=8, seed=0)
    >>> tangent_kernel(lm, [[0, 1, 2], [3, 3, 0]], read=ClozeHead([0, 3])).shape
    torch.Size([2, 2])
    """

    def __init__(self, words: Sequence[int], prompt: ArrayLike | Tensor | None = None) -> None:
        super().__init__()
        tokens = as_tensor(words, what="words").reshape(-1)
        self.words = [at_least("word of a class", each, 0) for each in tokens.tolist()]
        if len(set(self.words)) < max(len(self.words), 2):
            raise InvalidInput("words", "a different one for each of at least two classes", str(words), "e.g. [0, 1]")
        self.prompt: nn.Parameter | None = None
        if prompt is not None:
            rows = as_tensor(prompt, what="prompt").detach().to(torch.get_default_dtype())
            if rows.ndim != 2:
                raise InvalidInput("prompt", "soft tokens (L, width)", f"shape {tuple(rows.shape)}", "pass one a row")
            self.prompt = nn.Parameter(rows.clone())

    def forward(self, lm: nn.Module, tokens: Tensor) -> Tensor:
        """Return logits (B,C)."""
        if self.prompt is not None and self.prompt.shape[1] != lm.width:
            got = f"shape {tuple(self.prompt.shape)}"
            raise InvalidInput("prompt", f"soft tokens (L, {lm.width})", got, "pass embeddings of this network")
        scores = scores_of(lm, hidden_at_mask(lm, tokens, self.prompt))
        if max(self.words) >= scores.shape[1]:
            got, highest = str(max(self.words)), scores.shape[1] - 1
            raise InvalidInput("word of a class", f"a token in 0..{highest}", got, "pick words of the vocabulary")
        return scores[:, self.words]


class LinearReadout(nn.Module):
    """A linear head on what the language model knows at the mask, with new weights.

    Parameters
    ----------
    width, n_classes
        Of the language model, and C.
    seed
        Of the weights, normal of standard deviation 0.02.

    Examples
    --------
    >>> from ppl_hmm import BidirectionalLM, tangent_kernel
    >>> from ppl_hmm.fine_tuning.readouts import LinearReadout
    >>> lm = BidirectionalLM(4, width=8, seed=0)
    >>> tangent_kernel(lm, [[0, 1, 2], [3, 3, 0]], read=LinearReadout(8, 3)).shape
    torch.Size([2, 3, 2, 3])
    """

    linear: nn.Linear

    def __init__(self, width: int, n_classes: int = 2, seed: Seed = 0) -> None:
        super().__init__()
        self.linear = cast(nn.Linear, nn.utils.skip_init(nn.Linear, width, at_least("n_classes", n_classes, 2)))
        drawn = torch.randn(n_classes, width, generator=generator(seed, "fresh head"), device=CPU)
        with torch.no_grad():
            self.linear.weight.copy_(_FRESH_SCALE * drawn)
            self.linear.bias.zero_()

    @classmethod
    def probed(cls, lm: nn.Module, tokens: Tensor, labels: ArrayLike, C: float = 1.0) -> Self:
        """Return the head that logistic regression fits to labelled text, the language model staying as it is."""
        classes = class_labels(labels, len(tokens))
        if len(np.unique(classes)) < 2:
            raise InvalidInput("labels", "at least two classes", "one class", "draw other examples")
        with torch.no_grad():
            hidden = hidden_at_mask(lm, tokens).double().cpu().numpy()
        regression = fit_logistic(hidden, classes, C)
        head = cls(hidden.shape[1], len(regression.classes_))
        weight, bias = regression.coef_, regression.intercept_
        if len(weight) == 1:  # of the difference of two logits
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        with torch.no_grad():
            head.linear.weight.copy_(torch.from_numpy(weight))
            head.linear.bias.copy_(torch.from_numpy(bias))
        return head

    def forward(self, lm: nn.Module, tokens: Tensor) -> Tensor:
        """Return logits (B,C)."""
        return self.linear(hidden_at_mask(lm, tokens))


def words_for(laws: Tensor, labels: Tensor) -> list[int]:
    """Return two tokens, of which the likelier tells the class best, as somebody picks words who knows the task.

    ``laws`` (N,V) are what a language model predicts at the mask, ``labels`` (N,) in {0, 1}.
    """
    says = torch.sign(laws[:, None, :] - laws[:, :, None]).double()  # (N,v,w): whether w is likelier than v
    agreement = torch.einsum("nvw,n->vw", says, 2.0 * labels.double() - 1)
    first, second = divmod(int(agreement.argmax()), laws.shape[1])
    return [first, second]
