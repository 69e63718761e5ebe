"""Settings of the experiments with trained language models."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Any, ClassVar, Literal

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.experiments.figure3.configurations import Extent, Figure3Settings


class LanguageModelKind(StrEnum):
    """What is trained."""

    GRU = "gru"  # a BidirectionalLM
    TRANSFORMER = "transformer"  # a TransformerLM: the paper's kind

    def figure(self, device: str = "cpu") -> Extent:
        """Return what a figure shows that takes about ten minutes, on two cores or on a GPU."""
        return _FIGURES_ON_GPU.get(self, _FIGURES[self]) if device == "cuda" else _FIGURES[self]

    @property
    def smoke(self) -> Extent:
        """The same on one small model and little text, in a minute."""
        return _SMOKE[self]


_LITTLE_TEXT: dict[str, Any] = {"length": 20, "n_train": 300, "n_validation": 100, "n_test": 200, "restarts": 2}
# A prompt costs a transformer a whole pass, of every text and restart.
_CHEAP_PROMPTS: dict[str, Any] = {"restarts": 2, "prompt_steps": 60, "prompt_texts": 200}
_FIGURES = {
    LanguageModelKind.GRU: Extent((4, 8, 15, 25), 3, {"budget": 1000}),
    LanguageModelKind.TRANSFORMER: Extent((4, 8), 2, {"budget": 800, "learning_rate": 3e-3, **_CHEAP_PROMPTS}),
}
_FIGURES_ON_GPU = {
    LanguageModelKind.TRANSFORMER: Extent(
        (4, 8, 15, 25, 30),
        2,
        {"budget": 4000, "batch_size": 256, "learning_rate": 1e-3, "network": (128, 4), "restarts": 4},
    ),
}
_SMOKE = {
    LanguageModelKind.GRU: Extent((4,), 1, {"budget": 300, **_LITTLE_TEXT}),
    LanguageModelKind.TRANSFORMER: Extent(
        (4,), 1, {"budget": 400, **_LITTLE_TEXT, "learning_rate": 3e-3, "prompt_steps": 20, "prompt_texts": 100}
    ),
}


@dataclasses.dataclass(frozen=True)
class HeadVsPromptTrained(Figure3Settings):
    """Settings of ``head-vs-prompt --lm``: those of its text and prompts, and of training.

    Attributes
    ----------
    language_model
        ``'gru'`` or ``'transformer'``.
    objective
        What it is trained on: ``'tokens'``, ``'exact'`` or ``'quad'``.
    network
        Width and layers of the language model; by default its own.
    device
        Where it is trained and read, ``'cpu'`` or ``'cuda'``; exact inference stays on the CPU.
    budget
        Steps of training, of each model.
    batch_size, learning_rate
        Of training.
    prompt_length, restarts, prompt_steps, prompt_texts, prompt_rate
        Of the prompts that are learned, with the exact language model and with the trained one.
    """

    experiment: ClassVar[str] = schema.HEAD_VS_PROMPT_TRAINED
    title: ClassVar[str] = "Head tuning against prompt tuning: Figure 3 (left), with a trained language model as well."
    panel: ClassVar[Literal["left", "right"]] = "left"
    figure: ClassVar[Extent] = _FIGURES[LanguageModelKind.GRU]
    smoke: ClassVar[Extent] = _SMOKE[LanguageModelKind.GRU]
    smallest: ClassVar[int] = 2

    language_model: str = LanguageModelKind.GRU.value
    objective: str = "tokens"
    network: tuple[int, ...] = ()
    device: str = "cpu"
    budget: int = 1000
    batch_size: int = 64
    learning_rate: float = 4e-3
    prompt_length: int = 2
    restarts: int = 8
    prompt_steps: int = 150
    prompt_texts: int = 1000
    prompt_rate: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("language model", self.language_model, list(LanguageModelKind))
        one_of("objective", self.objective, ("tokens", "exact", "quad"))
        at_least("length", self.length, 2)
        if len(self.network) not in (0, 2):
            raise InvalidInput("network", "width and layers", repr(self.network), "pass e.g. (128, 4), or leave it out")
        for name, size in zip(("width", "layers"), self.network, strict=False):
            at_least(f"{name} of the network", size, 1)
        one_of("device", self.device, ("cpu", "cuda"))

    @property
    def training_length(self) -> int:
        """Tokens of texts to train on: recurrent models read longer text as well, transformers do not."""
        whole = self.prompt_length + 1 + self.length
        return min(whole, 40) if self.language_model == LanguageModelKind.GRU else whole
