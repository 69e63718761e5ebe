"""The language model of a drawn model, trained on its text."""

from __future__ import annotations

import torch

from ppl_hmm.errors import InvalidInput
from ppl_hmm.experiments.trained.configurations import LanguageModelKind, TrainedSettings
from ppl_hmm.language_models.bidirectional import BidirectionalLM
from ppl_hmm.language_models.training import Training, train
from ppl_hmm.language_models.transformer import TransformerLM
from ppl_hmm.models.kinds import Model


def trained(
    settings: TrainedSettings, model: Model, n_states: int, seed: int
) -> Training[BidirectionalLM | TransformerLM]:
    """Return a language model of a model's text, trained; ``n_states`` in all, memory values counted."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device", "a GPU that PyTorch sees", "none", "leave out device 'cuda'")
    return train(
        untrained(settings, n_states, seed).to(settings.device),
        model,
        objective=settings.objective,
        steps=settings.budget,
        batch_size=settings.batch_size,
        length=settings.training_length,
        learning_rate=settings.learning_rate,
        lengthening=settings.lengthening,
        seed=seed,
    )


def untrained(settings: TrainedSettings, n_states: int, seed: int) -> BidirectionalLM | TransformerLM:
    """Return the language model before training, of the sizes that the settings name or its own."""
    sizes: dict[str, int] = dict(zip(("width", "layers"), settings.network, strict=False))
    if settings.language_model == LanguageModelKind.GRU:
        return BidirectionalLM(settings.vocabulary_size, n_states, seed=seed, **sizes)
    sizes |= {"heads": settings.heads, "longest": settings.training_length}
    return TransformerLM(settings.vocabulary_size, seed=seed, **sizes)
