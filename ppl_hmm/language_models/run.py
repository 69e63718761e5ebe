"""Training under way: AdamW, clipped gradients, a cosine schedule; held-out text is measured along it."""

from __future__ import annotations

import copy
import dataclasses
import math

import torch
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.randomness import CPU, generator
from ppl_hmm.language_models.corpora import Corpus
from ppl_hmm.language_models.held_out import HeldOut
from ppl_hmm.language_models.objectives import Objective, token_laws
from ppl_hmm.language_models.trained import TrainedLM

_BETAS, _WEIGHT_DECAY, _LARGEST_GRADIENT = (0.9, 0.98), 0.01, 1.0
_SHORTEST_WARM_UP = 50  # steps in which the learning rate rises
_FIRST_LENGTH = 10  # tokens that are read at first of a text, where it grows
_MEASUREMENTS = 20  # of held-out text along training


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a language model is trained."""

    objective: Objective
    steps: int
    batch_size: int
    length: int
    learning_rate: float
    seed: int
    warm_up: float = 0.0  # share of the steps in which the learning rate rises, at least fifty of them
    lengthening: float = 0.0  # share of the steps in which texts grow to their length

    def as_attributes(self) -> dict[str, str | int | float]:
        """Return the plan as attributes of a result."""
        return {**dataclasses.asdict(self), "objective": str(self.objective)}

    def measures(self, step: int) -> bool:
        """Say whether held-out text is measured, and a checkpoint written, after a number of steps."""
        return step % max(self.steps // _MEASUREMENTS, 1) == 0 or step == self.steps

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: a rise, then a cosine."""
        rising = min(max(_SHORTEST_WARM_UP, self.warm_up * self.steps), self.steps)
        rise = min((step + 1) / rising, 1.0)
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def tokens_read(self, step: int, length: int) -> int:
        """Return how many tokens of a text of some length are read in a step: at first its beginning, then all."""
        growing = self.lengthening * self.steps
        if step >= growing or length <= _FIRST_LENGTH:
            return length
        return int(_FIRST_LENGTH + (length - _FIRST_LENGTH) * step / growing)


class Run:
    """A language model on its way: its parameters, those of the optimiser, and what was measured."""

    def __init__(self, lm: TrainedLM, corpus: Corpus, plan: Plan) -> None:
        self.lm, self.plan, self._corpus = copy.deepcopy(lm), plan, corpus
        for layer in self.lm.modules():
            if isinstance(layer, torch.nn.RNNBase):
                layer.flatten_parameters()  # a copy's lie apart, which a GPU would mend at every call
        self.lm.link = plan.objective.link
        self._parameters = list(self.lm.parameters())
        options = {"lr": plan.learning_rate, "betas": _BETAS, "weight_decay": _WEIGHT_DECAY}
        self.optimiser = torch.optim.AdamW(self._parameters, **options)
        self._held_out = HeldOut.of(self.lm, corpus, plan.seed)
        self.step = 0
        self.log: list[dict[str, float]] = [{schema.STEP: 0, **self._held_out.measured(self.lm)}]

    def advance(self) -> None:
        """Take a step, and measure where the plan says so."""
        loss = self._loss()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, _LARGEST_GRADIENT)
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        self.optimiser.step()
        self.step += 1
        if self.plan.measures(self.step):
            self.log.append({schema.STEP: self.step, **self._held_out.measured(self.lm)})

    def _loss(self) -> Tensor:
        """Return the loss of a batch."""
        texts = self._corpus.batch(self.step)
        n_read = self.plan.tokens_read(self.step, texts.shape[1])
        tokens = texts[:, :n_read].to(self.lm.embedding.weight.device)
        read, predicted = self.lm.example(tokens, generator(self.plan.seed, f"masks {self.step}"))
        scores = self.lm.logits(read)
        if self.plan.objective is Objective.EXACT:
            assert self._corpus.model is not None  # as `train` has checked
            target = self.lm.optimum(self._corpus.model, read)
        else:
            target = token_laws(tokens, self.lm.vocabulary_size)
        return self.plan.objective.loss(scores[predicted], target.to(scores)[predicted])

    def moments(self) -> dict[str, Tensor]:
        """Return the optimiser's state, by parameter."""
        state = self.optimiser.state_dict()["state"]
        return {f"{number}.{name}": value for number, own in state.items() for name, value in own.items()}

    def columns(self) -> dict[str, Tensor]:
        """Return the log, by variable."""
        names = self.log[0]
        return {name: torch.tensor([row[name] for row in self.log], dtype=torch.float64, device=CPU) for name in names}

    def restore(self, moments: dict[str, Tensor], columns: dict[str, Tensor]) -> None:
        """Go on after what was measured last, with the optimiser's state at that time."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in moments.items():
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = value
        if len(state) != len(self._parameters):
            raise ValueError(f"moments of {len(state)} parameters in place of {len(self._parameters)}")
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        names = list(self.log[0])
        rows = zip(*(columns[name].tolist() for name in names), strict=True)
        self.log = [dict(zip(names, row, strict=True)) for row in rows]
        self.step = int(self.log[-1][schema.STEP])
