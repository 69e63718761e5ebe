"""Causal language models of Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base.tokens import MASK, as_text_with_ends
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.suffixes import Suffix, template_tokens
from ppl_hmm.language_models.following import followed
from ppl_hmm.language_models.hugging_face import HuggingFaceLM, special_ids
from ppl_hmm.language_models.trained import only_for
from ppl_hmm.models.kinds import Prompt, Text


def from_causal_lm(
    hf_model: Any,
    tokenizer: Any = None,
    *,
    label_words: Sequence[str | int] | None = None,
    begin: Sequence[int] | None = None,
) -> HuggingFaceCausalLM:
    """Return a Hugging Face causal language model under the protocol :class:`~ppl_hmm.CausalLM`.

    Parameters
    ----------
    hf_model
        Such as ``GPT2LMHeadModel``; it is put in evaluation mode.
    tokenizer
        Of the model. Texts are its ids without special tokens and padding, which are refused, but for the end of a
        document: ``tokenizer(texts, add_special_tokens=False)["input_ids"]``.
    label_words
        Tokens that laws are of, V words or ids; laws are renormalised over them. By default the whole vocabulary.
    begin
        Ids that every text begins with, at least one: what the law of the first token is read from. By default the
        ``bos`` token of the tokenizer, else of the model.

    Raises
    ------
    InvalidInput
        Another kind of model, nothing that begins texts, a label word of several tokens; transformers is not installed.

    See Also
    --------
    from_masked_lm : Of masked language models.
    check_language_model : Tests the result.
    next_token_features : What heads read of it.

    Notes
    -----
    One pass a text. Every token is read: a mask may stand at the end of a text alone, where it is not read, and behind
    it the law at the end is repeated.

    Examples
    --------
    >>> import pytest
    >>> transformers = pytest.importorskip("transformers")
    >>> from ppl_hmm import from_causal_lm, next_token_features
    >>> gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=2))
    >>> next_token_features(from_causal_lm(gpt, label_words=[5, 6, 7], begin=[0]), [[8, 5, 9]]).shape
    torch.Size([1, 3])
    """
    if begin is None:
        begin = special_ids(tokenizer, "bos") or special_ids(getattr(hf_model, "config", None), "bos")
    lm = HuggingFaceCausalLM("from_causal_lm", hf_model, tokenizer, label_words, begin)
    if not len(lm.begin):
        raise InvalidInput("from_causal_lm", "a token that begins texts", "none", "pass begin=[id]")
    return lm


class HuggingFaceCausalLM(HuggingFaceLM):
    """A Hugging Face causal language model; see :func:`from_causal_lm`."""

    _NOT_TEXT = ("bos", "pad")
    _TEXT = ("unk", "eos")  # the end of a document may stand within a text

    def next_token_laws(self, tokens: Text, *, prompt: Prompt | None = None, lengths: Text | None = None) -> Tensor:
        """Return P(X_{t+1} | x_1..x_t) (B,T+1,V) behind a prompt; differentiable in it where it requires a gradient."""
        text, after = self._read(tokens, lengths)
        rows = self.rows(prompt)
        place = torch.arange(text.shape[1] + 1, device=text.device)
        return self._laws(self.embedded(text.clamp(min=0)), rows, torch.minimum(place, after[:, None]), rows)

    def law_after(
        self,
        tokens: Text,
        *,
        prompt: Prompt | None = None,
        suffix: Suffix | None = None,
        lengths: Text | None = None,
    ) -> Tensor:
        """Return the law (B,V) of the token after each text and a suffix: tokens (S,) or embeddings (S,d)."""
        text, after = self._read(tokens, lengths)
        rows, behind, learned = self.rows(prompt), self.embedded(text.clamp(min=0)), None
        n_behind = 0
        if suffix is not None:
            ids = template_tokens("suffix", suffix, self.text_vocabulary_size)
            learned = self.rows(suffix, "suffix") if ids is None else None
            soft = learned if learned is not None else self.embedded(torch.as_tensor(ids, device=text.device))
            n_behind = len(soft)
            with only_for(learned):
                behind = followed(behind, after, soft)
        places = (after + n_behind)[:, None]
        return self._laws(behind, rows, places, rows if learned is None else learned)[:, 0]

    def _laws(self, text: Tensor, rows: Tensor | None, places: Tensor, learned: Tensor | None) -> Tensor:
        """Return laws after ``places`` (B,m) tokens of embedded texts (B,n,d) behind a prompt."""
        with only_for(learned):
            prompts = None if rows is None else rows.expand(len(text), -1, -1)
            whole = self.behind(prompts, text)
            n_before = whole.shape[1] - text.shape[1]
            present = torch.ones(whole.shape[:2], dtype=torch.bool, device=whole.device)  # what comes later is unread
            return self.laws(whole, present, places + n_before - 1)

    def _read(self, tokens: Text, lengths: Text | None) -> tuple[Tensor, Tensor]:
        """Return checked text (B,T) without masks before its end, and where each text ends (B,)."""
        text, after = as_text_with_ends(tokens, self.text_vocabulary_size, lengths=lengths, device=self.model.device)
        self.require_words(text)
        hidden = (text == MASK) & (torch.arange(text.shape[1], device=text.device) < after[:, None])
        if hidden.any():
            sequence, position = hidden.nonzero()[0].tolist()
            what = f"token at sequence {sequence}, position {position}"
            remedy = "pass text without masks: a causal transformer reads every token"
            raise InvalidInput(what, "an observed token", "MASK", remedy)
        return text, after
