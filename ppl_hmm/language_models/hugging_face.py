"""Hugging Face models under our protocols: what adapters of masked and causal ones share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ppl_hmm.base.foreign import IDS
from ppl_hmm.base.tokens import ends
from ppl_hmm.errors import InvalidInput
from ppl_hmm.language_models.extra import require_extra
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.models.prompt import prompt_rows

# Scores that are computed at a time: each text has its length times the vocabulary of them.
_SCORES_AT_ONCE = 2**26
_OFFSET = 2  # positions that some models do not use
_SMALLEST_VOCABULARY = 2**12  # below it layers take more memory than scores


class HuggingFaceLM:
    """A Hugging Face language model whose laws are of V label words; soft tokens are its embeddings (d,).

    Attributes
    ----------
    model
        The model, in evaluation mode.
    label_words
        Ids (V,) of the tokens that laws are of, each law renormalised over them.
    begin
        Ids of special tokens in front of prompt and text.
    not_text
        Special tokens of the tokenizer that no text holds, id to name; label words are not among them. One that
        separates two parts of a text may stand within it, not at its end.
    """

    #: Special tokens that no text holds, but for those that are one of the others, too.
    _NOT_TEXT: ClassVar[tuple[str, ...]] = ()
    _TEXT: ClassVar[tuple[str, ...]] = ()
    _BETWEEN: ClassVar[tuple[str, ...]] = ()

    def __init__(self, function: str, model: Any, tokenizer: Any, label_words: Any, begin: Sequence[int]) -> None:
        transformers = require_extra(function, "transformers")
        if not isinstance(model, transformers.PreTrainedModel) or model.get_output_embeddings() is None:
            raise InvalidInput(
                f"model of {function}",
                "a Hugging Face model with scores of tokens",
                type(model).__name__,
                "pass e.g. BertForMaskedLM or GPT2LMHeadModel, an instance",
            )
        self.model = model.eval()
        self.text_vocabulary_size = int(model.get_input_embeddings().num_embeddings)
        chosen = range(self.text_vocabulary_size) if label_words is None else self._ids(label_words, tokenizer)
        self.label_words = torch.tensor(list(chosen), device=model.device)
        self.begin = self._specials("begin", begin)
        words = {*special_ids(tokenizer, *self._TEXT), *([] if label_words is None else chosen)}
        ids = ((each, name) for name in self._NOT_TEXT for each in special_ids(tokenizer, name))
        self.not_text = {each: name for each, name in ids if each not in words}
        self._between = special_ids(tokenizer, *self._BETWEEN)

    @property
    def vocabulary_size(self) -> int:
        """V: the label words."""
        return len(self.label_words)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """One language model: ()."""
        return ()

    @property
    def prompt_shape(self) -> tuple[int, ...]:
        """(d,): a soft token is an embedding."""
        return (int(self.model.get_input_embeddings().embedding_dim),)

    @property
    def prompt_constraint(self) -> Literal["nonnegative", "real"]:
        """Embeddings are real."""
        return "real"

    def require_words(self, text: Tensor) -> None:
        """Raise :class:`InvalidInput` where checked text (B,T) holds tokens that are none of it, such as padding."""
        last = torch.arange(text.shape[-1], device=text.device) == ends(text)[:, None] - 1
        for each, name in self.not_text.items():
            wrong = text == each
            found = (wrong & last if each in self._between else wrong).any(-1)
            if found.any():
                what, got = f"text {found.nonzero()[0].item()}", f"{each}, the tokenizer's {name} token"
                raise InvalidInput(what, "ids of words alone", got, f"pass {IDS}, without padding")

    def rows(self, prompt: Prompt | None, what: str = "prompt") -> Tensor | None:
        """Return checked embeddings (L,d) of a prompt; None without one."""
        if prompt is None:
            return None
        like = self.model.get_input_embeddings().weight.detach()
        return prompt_rows(prompt, self.prompt_shape, nonnegative=False, like=like, what=what)

    def embedded(self, ids: Tensor) -> Tensor:
        """Return the embeddings (…,d) of token ids."""
        return self.model.get_input_embeddings()(ids)

    def behind(self, prompts: Tensor | None, text: Tensor) -> Tensor:
        """Return embeddings of the beginning, a prompt and a text for each row: (N,n,d) of (N,L,d) and (N,T,d)."""
        start = self.embedded(self.begin).expand(len(text), -1, -1)
        return torch.cat([start, *([] if prompts is None else [prompts]), text], dim=1)

    def laws(self, embeddings: Tensor, present: Tensor, places: Tensor) -> Tensor:
        """Return laws (N,m,V) at places (N,m) of texts (N,n,d), some texts a pass."""
        n_rows, length, _ = embeddings.shape
        at_once = max(1, _SCORES_AT_ONCE // (length * max(self.text_vocabulary_size, _SMALLEST_VOCABULARY)))
        found = []
        for start in range(0, n_rows, at_once):
            own = slice(start, start + at_once)
            scores = self._scores(embeddings[own], present[own])[..., self.label_words]
            scores = scores.gather(1, places[own, :, None].expand(-1, -1, scores.shape[-1]))
            found.append((scores if scores.dtype == torch.float64 else scores.float()).softmax(-1))
        return torch.cat(found)

    def _scores(self, embeddings: Tensor, present: Tensor) -> Tensor:
        try:
            return self.model(inputs_embeds=embeddings, attention_mask=present.to(torch.long)).logits
        except (IndexError, RuntimeError):
            n_positions = getattr(self.model.config, "max_position_embeddings", None)
            if n_positions is None or embeddings.shape[1] <= n_positions - _OFFSET:
                raise
            raise InvalidInput(
                f"text of {type(self.model).__name__}",
                f"at most {n_positions} positions, special tokens and prompt among them",
                str(embeddings.shape[1]),
                "shorten the text",
            ) from None

    def _ids(self, words: Any, tokenizer: Any) -> list[int]:
        """Return the ids of label words: ids as they are, strings by the tokenizer, a single token each."""
        ids = []
        for word in words:
            if not isinstance(word, str):
                ids += self._specials("label_words", [word]).tolist()
                continue
            if tokenizer is None:
                raise InvalidInput("label_words", "token ids, without a tokenizer", repr(word), "pass the tokenizer")
            own = tokenizer(word, add_special_tokens=False)["input_ids"]
            if len(own) != 1 or own[0] == getattr(tokenizer, "unk_token_id", None):
                got = "the unknown token" if len(own) == 1 else f"{len(own)} tokens"
                raise InvalidInput(f"label word {word!r}", "a single known token", got, "choose another word")
            ids += own
        if len(set(ids)) < max(len(ids), 2):
            raise InvalidInput("label_words", "at least two different tokens", str(ids), "choose others")
        return ids

    def _specials(self, what: str, ids: Sequence[int]) -> Tensor:
        wrong = [each for each in ids if isinstance(each, bool) or not 0 <= int(each) < self.text_vocabulary_size]
        if wrong:
            expected = f"ids in 0..{self.text_vocabulary_size - 1}"
            raise InvalidInput(what, expected, repr(wrong[0]), "check the tokenizer against the model")
        return torch.tensor([int(each) for each in ids], dtype=torch.long, device=self.model.device)


def special_ids(tokenizer: Any, *names: str) -> list[int]:
    """Return the ids of a tokenizer's special tokens of these names, of those that it has."""
    found = (getattr(tokenizer, f"{name}_token_id", None) for name in names)
    return [each for each in found if each is not None]
