"""The language model of a drawn model, trained on its text."""

from __future__ import annotations

from ppl_hmm.experiments.trained.configurations import LanguageModelKind, TrainedSettings
from ppl_hmm.language_models.bidirectional import BidirectionalLM
from ppl_hmm.language_models.training import Training, train
from ppl_hmm.language_models.transformer import TransformerLM
from ppl_hmm.models.kinds import Model


def trained(
    settings: TrainedSettings, model: Model, n_states: int, seed: int
) -> Training[BidirectionalLM | TransformerLM]:
    """Return a language model of a model's text, trained; ``n_states`` in all, memory values counted."""
    return train(
        _untrained(settings, n_states, seed),
        model,
        objective=settings.objective,
        steps=settings.budget,
        batch_size=settings.batch_size,
        length=settings.training_length,
        learning_rate=settings.learning_rate,
        seed=seed,
    )


def _untrained(settings: TrainedSettings, n_states: int, seed: int) -> BidirectionalLM | TransformerLM:
    if settings.language_model == LanguageModelKind.GRU:
        return BidirectionalLM(settings.vocabulary_size, n_states, seed=seed)
    return TransformerLM(settings.vocabulary_size, longest=settings.training_length, seed=seed)
