"""Masked language models of Hugging Face: every position asked for is hidden in a pass of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ppl_hmm.base.tokens import MASK, as_tokens, ends
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.rows import check_positions
from ppl_hmm.language_models.hugging_face import HuggingFaceLM, special_ids
from ppl_hmm.language_models.trained import only_for
from ppl_hmm.models.kinds import Prompt, Text


def from_masked_lm(
    hf_model: Any,
    tokenizer: Any = None,
    *,
    label_words: Sequence[str | int] | None = None,
    mask_token_id: int | None = None,
    begin: Sequence[int] | None = None,
    end: Sequence[int] | None = None,
) -> HuggingFaceMaskedLM:
    """Return a Hugging Face masked language model under the protocol :class:`~ppl_hmm.MaskedLM`.

    Parameters
    ----------
    hf_model
        Such as ``BertForMaskedLM``; it is put in evaluation mode.
    tokenizer
        Of the model. Texts are its ids without special tokens and padding, which are refused:
        ``tokenizer(texts, add_special_tokens=False)["input_ids"]``. Of a pair of sentences, the ids of one, the
        tokenizer's ``sep``, and the ids of the other; all are of the first segment.
    label_words
        Tokens that laws are of, V words or ids; laws are renormalised over them. By default the whole vocabulary.
    mask_token_id, begin, end
        Ids of the mask, and of special tokens in front of and behind a text. By default the tokenizer's mask, its
        ``cls`` and its ``sep``.

    Raises
    ------
    InvalidInput
        Another kind of model, no mask token, a label word of several tokens; transformers is not installed.

    See Also
    --------
    from_causal_lm : Of causal language models.
    check_language_model : Tests the result.
    audit_language_model : What heads and prompts learn from it.

    Notes
    -----
    A law at a position takes a pass with that token hidden: all T positions of a text, ``positions=None``, take T
    passes. Heads in front of the text take one. A mask at a text's end is not read, unless its law is asked for.

    Examples
    --------
    >>> import pytest, torch
    >>> transformers = pytest.importorskip("transformers")
    >>> from ppl_hmm import from_masked_lm, probe_features
    >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    >>> bert = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=10, **sizes))
    >>> lm = from_masked_lm(bert, label_words=[5, 6, 7], mask_token_id=4, begin=[2], end=[3])
    >>> probe_features(lm, [[8, 5, 9]]).shape  # the laws of three label words
    torch.Size([1, 3])
    """
    mask = getattr(tokenizer, "mask_token_id", None) if mask_token_id is None else mask_token_id
    begin = special_ids(tokenizer, "cls") if begin is None else begin
    end = special_ids(tokenizer, "sep") if end is None else end
    return HuggingFaceMaskedLM(hf_model, tokenizer, label_words, mask, begin, end)


class HuggingFaceMaskedLM(HuggingFaceLM):
    """A Hugging Face masked language model; see :func:`from_masked_lm`."""

    _NOT_TEXT = ("bos", "eos", "pad", "cls", "sep")
    _TEXT = ("unk",)
    _BETWEEN = ("sep",)

    def __init__(
        self, model: Any, tokenizer: Any, label_words: Any, mask: int | None, begin: Sequence[int], end: Sequence[int]
    ) -> None:
        super().__init__("from_masked_lm", model, tokenizer, label_words, begin)
        if mask is None:
            remedy = "pass a tokenizer that has one, or mask_token_id"
            raise InvalidInput("from_masked_lm", "a mask token", "none", remedy)
        (self.mask,) = self._specials("mask_token_id", [mask]).tolist()
        self.end = self._specials("end", end)

    def encode(self, tokens: Text, lengths: Text | None = None) -> HuggingFaceText:
        """Return checked text (B,T); no layer can be computed before the prompt is known."""
        text = as_tokens(tokens, self.text_vocabulary_size, lengths=lengths, device=self.model.device)
        self.require_words(text)
        return HuggingFaceText(self, text)

    def conditionals(
        self,
        tokens: Text,
        *,
        prompt: Prompt | None = None,
        positions: Sequence[int] | None = None,
        lengths: Text | None = None,
    ) -> Tensor:
        """Return G (B,positions,V), a pass for each position; differentiable in a prompt that requires a gradient."""
        return self.encode(tokens, lengths).conditionals(self.rows(prompt), positions)

    def hidden(self, text: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Return ids (B,·) of texts with a position hidden, special tokens behind each, and which of them are there."""
        n_end = len(self.end)
        text = text.clone()
        text[:, position] = MASK
        after = ends(text).clamp(min=position + 1)[:, None]
        place = torch.arange(text.shape[1] + n_end, device=text.device)
        ids = pad(torch.where(text == MASK, self.mask, text), (0, n_end))
        for number, special in enumerate(self.end):
            ids = torch.where(place == after + number, special, ids)
        return ids, place < after + n_end


class HuggingFaceText:
    """Checked text of a masked language model."""

    def __init__(self, lm: HuggingFaceMaskedLM, text: Tensor) -> None:
        self._lm, self._text = lm, text

    def conditionals(self, prompt: Tensor | None = None, positions: Sequence[int] | None = None) -> Tensor:
        """Return G (…,B,positions,V) after prompt rows (…,L,d); differentiable in them."""
        with only_for(prompt):
            chosen = check_positions(positions, self._text.shape[1])
            return torch.stack([self._at(position, prompt) for position in chosen], dim=-2)

    def _at(self, position: int, prompt: Tensor | None) -> Tensor:
        """Return G (…,B,V) at a position, in one pass for all texts and prompts."""
        lm, leading, prompts, n_soft = self._lm, (), None, 0
        ids, present = lm.hidden(self._text, position)
        n_texts = len(ids)
        text = lm.embedded(ids)
        if prompt is not None:
            leading, n_soft = prompt.shape[:-2], prompt.shape[-2]
            prompts = prompt.to(text).reshape(-1, n_soft, text.shape[-1]).repeat_interleave(n_texts, dim=0)
            text, present = (each.repeat(len(prompts) // n_texts, *[1] * (each.ndim - 1)) for each in (text, present))
        n_before = len(lm.begin) + n_soft
        places = torch.full((len(text), 1), n_before + position, device=text.device)
        laws = lm.laws(lm.behind(prompts, text), pad(present, (n_before, 0), value=True), places)
        return laws.reshape(*leading, n_texts, -1)
