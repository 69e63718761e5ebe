"""Settings of the experiments with trained language models."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Any, ClassVar, Literal

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.experiments.figure3.configurations import Extent, Figure3Settings, HeadVsPrompt, MemoryVsVanilla


class LanguageModelKind(StrEnum):
    """What is trained."""

    GRU = "gru"  # a BidirectionalLM
    TRANSFORMER = "transformer"  # a TransformerLM: the paper's kind


_GRU, _TRANSFORMER = LanguageModelKind
_LITTLE_TEXT: dict[str, Any] = {"length": 20, "n_train": 300, "n_validation": 100, "n_test": 200}
# A prompt costs a transformer a whole pass, of every text and restart.
_CHEAP_PROMPTS: dict[str, Any] = {"restarts": 2, "prompt_steps": 60, "prompt_texts": 200}
# Attention reads every position, and each costs a transformer a whole pass.
_LITTLE_ATTENDED: dict[str, Any] = {"length": 40, "n_train": 1000, "n_validation": 200, "n_test": 500}
# A step in which a transformer predicts few tokens teaches little: many small ones teach most in the same time. At a
# rate of 3e-3 it learns more of some models of eight states, and of others nothing.
_FIGURE_STEPS: dict[str, Any] = {"batch_size": 32, "learning_rate": 1.5e-3}
_SMOKE_STEPS: dict[str, Any] = {"batch_size": 32, "learning_rate": 3e-3}


@dataclasses.dataclass(frozen=True)
class TrainedSettings(Figure3Settings):
    """Settings of a panel with a trained language model beside the exact one.

    Attributes
    ----------
    figures
        By kind of language model: what a figure shows that takes about ten minutes on two cores.
    figures_on_gpu
        Where a GPU computes another figure in that time.
    smokes
        The same on one small model and little text, in a minute.
    language_model
        ``'gru'`` or ``'transformer'``.
    objective
        What it is trained on: ``'tokens'``, ``'exact'`` or ``'quad'``.
    heads
        Of attention in a transformer: with two it learns more slowly.
    network
        Width and layers of the language model; by default its own. The width of a transformer is a multiple of four.
    device
        Where it is trained and read, ``'cpu'`` or ``'cuda'``; exact inference stays on the CPU.
    budget
        Steps of training, of each model.
    batch_size, learning_rate
        Of training.
    """

    figures: ClassVar[dict[LanguageModelKind, Extent]]
    figures_on_gpu: ClassVar[dict[LanguageModelKind, Extent]] = {}
    smokes: ClassVar[dict[LanguageModelKind, Extent]]
    seeds_per_cell: ClassVar[int] = 1  # each trains a network of its own
    heads: ClassVar[int] = 4

    language_model: str = LanguageModelKind.GRU.value
    objective: str = "tokens"
    network: tuple[int, ...] = ()
    device: str = "cpu"
    budget: int = 1000
    batch_size: int = 64
    learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("language model", self.language_model, list(LanguageModelKind))
        one_of("objective", self.objective, ("tokens", "exact", "quad"))
        at_least("length", self.length, 2)
        if len(self.network) not in (0, 2):
            raise InvalidInput("network", "width and layers", repr(self.network), "pass e.g. (128, 4), or leave it out")
        for name, size in zip(("width", "layers"), self.network, strict=False):
            at_least(f"{name} of the network", size, 1)
        if self.language_model == LanguageModelKind.TRANSFORMER and self.network and self.network[0] % self.heads:
            got, remedy = str(self.network[0]), "choose another, or leave it out"
            raise InvalidInput("width of the network", f"a multiple of {self.heads} for a transformer", got, remedy)
        one_of("device", self.device, ("cpu", "cuda"))

    @classmethod
    def extent(cls, kind: LanguageModelKind, device: str = "cpu", *, smoke: bool = False) -> Extent:
        """Return how much of the experiment to compute with a kind of language model on a device."""
        if smoke:
            return cls.smokes[kind]
        return (cls.figures | cls.figures_on_gpu if device == "cuda" else cls.figures)[kind]

    @property
    def longest_read(self) -> int:
        """Tokens of the longest text that is read, masks and prompts included."""
        raise NotImplementedError(f"{type(self).__name__}.longest_read")

    @property
    def lengthening(self) -> float:
        """Share of training in which texts grow: transformers learn sooner where to look among few tokens."""
        return 0.5 if self.language_model == LanguageModelKind.TRANSFORMER else 0.0

    @property
    def training_length(self) -> int:
        """Tokens of texts to train on: recurrent models read longer text as well, transformers do not."""
        return min(self.longest_read, 40) if self.language_model == LanguageModelKind.GRU else self.longest_read


@dataclasses.dataclass(frozen=True)
class HeadVsPromptTrained(TrainedSettings):
    """Settings of ``head-vs-prompt --lm``: those of its text, of training and of prompts.

    Attributes
    ----------
    prompt_length, restarts, prompt_steps, prompt_texts, prompt_rate
        Of the prompts that are learned, with the exact language model and with the trained one.
    """

    experiment: ClassVar[str] = schema.HEAD_VS_PROMPT_TRAINED
    title: ClassVar[str] = "Head tuning against prompt tuning: Figure 3 (left), with a trained language model as well."
    panel: ClassVar[Literal["left", "right"]] = "left"
    smallest: ClassVar[int] = 2
    figures: ClassVar[dict[LanguageModelKind, Extent]] = {
        _GRU: Extent((4, 8, 15, 25), 3, {"budget": 800}),
        _TRANSFORMER: Extent((4, 8), 2, {"length": 40, "budget": 8000, **_FIGURE_STEPS, **_CHEAP_PROMPTS}),
    }
    figures_on_gpu: ClassVar[dict[LanguageModelKind, Extent]] = {
        _TRANSFORMER: Extent(
            (4, 8, 15, 25, 30),
            2,
            {
                "budget": 5000,
                "batch_size": 256,
                "learning_rate": _FIGURE_STEPS["learning_rate"],
                "network": (128, 4),
                "restarts": 4,
                "prompt_texts": 500,
            },
        )
    }
    smokes: ClassVar[dict[LanguageModelKind, Extent]] = {
        _GRU: Extent((4,), 1, {"budget": 300, **_LITTLE_TEXT, "restarts": 2}),
        _TRANSFORMER: Extent(
            (4,),
            1,
            {"budget": 800, **_SMOKE_STEPS, **_LITTLE_TEXT, "restarts": 2, "prompt_steps": 20, "prompt_texts": 100},
        ),
    }
    figure: ClassVar[Extent] = figures[_GRU]
    smoke: ClassVar[Extent] = smokes[_GRU]

    prompt_length: int = 2
    restarts: int = 8
    prompt_steps: int = 150
    prompt_texts: int = 1000
    prompt_rate: float = 0.3

    @property
    def longest_read(self) -> int:
        """Tokens of a text behind a prompt and a mask."""
        return self.prompt_length + 1 + self.length


@dataclasses.dataclass(frozen=True)
class MemoryVsVanillaTrained(TrainedSettings):
    """Settings of ``memory-vs-vanilla --lm``: those of its text and of training."""

    experiment: ClassVar[str] = schema.MEMORY_VS_VANILLA_TRAINED
    title: ClassVar[str] = (
        "Attention with a memory against a linear head without: Figure 3 (right), with trained language models as well."
    )
    panel: ClassVar[Literal["left", "right"]] = "right"
    states_per_value: ClassVar[int] = MemoryVsVanilla.states_per_value
    smallest: ClassVar[int] = MemoryVsVanilla.smallest
    multiple_of: ClassVar[int] = MemoryVsVanilla.multiple_of
    figures: ClassVar[dict[LanguageModelKind, Extent]] = {
        _GRU: Extent((8, 20), 2, {"budget": 600}),
        _TRANSFORMER: Extent((8,), 1, {"budget": 8000, **_FIGURE_STEPS, **_LITTLE_ATTENDED}),
    }
    smokes: ClassVar[dict[LanguageModelKind, Extent]] = {
        _GRU: Extent((8,), 1, {"budget": 300, **_LITTLE_TEXT}),
        _TRANSFORMER: Extent((8,), 1, {"budget": 1600, **_SMOKE_STEPS, **_LITTLE_TEXT}),
    }
    figure: ClassVar[Extent] = figures[_GRU]
    smoke: ClassVar[Extent] = smokes[_GRU]

    @property
    def longest_read(self) -> int:
        """Tokens of a text behind a mask."""
        return 1 + self.length


#: The settings with a trained language model, by the exact experiment.
TRAINED: dict[type[Figure3Settings], type[TrainedSettings]] = {
    HeadVsPrompt: HeadVsPromptTrained,
    MemoryVsVanilla: MemoryVsVanillaTrained,
}
