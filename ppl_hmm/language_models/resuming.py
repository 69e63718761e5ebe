"""The state of a training in a directory: whatever a later call needs to go on, to the same numbers bit by bit.

OUT/training.json            the language model and the plan, written first: what belongs here
OUT/state.safetensors        parameters, the optimiser's moments and the log after the last measurement
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base import atomic
from ppl_hmm.errors import ForeignFile
from ppl_hmm.language_models.checkpoints import description, read_json, read_tensors, set_weights, to_bytes
from ppl_hmm.language_models.corpora import Corpus
from ppl_hmm.language_models.run import Plan, Run
from ppl_hmm.language_models.trained import TrainedLM

_PLAN, _STATE = "training.json", "state.safetensors"
_WEIGHT, _MOMENT, _LOG = "weight.", "optimiser.", "log."


class Checkpoint:
    """A directory that holds the state of one training.

    Raises
    ------
    ForeignFile
        The directory cannot be used, or holds something else, or another training (what differs).
    """

    def __init__(self, path: str | Path, lm: TrainedLM, corpus: Corpus, plan: Plan) -> None:
        self._path = atomic.as_path(path, "directory")
        start = _hash(dict(lm.state_dict()))
        wanted = {**description(lm), **plan.as_attributes(), "start": start, "source": _hash(corpus.description)}
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            if not any(not atomic.is_part(each) for each in self._path.iterdir()):
                atomic.create(json.dumps(wanted, indent=2).encode(), self._path / _PLAN)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ForeignFile(f"directory {path}", "one that can be written", reason, "choose another out") from None
        _require_same(read_json(self._path / _PLAN, "the plan of a training"), wanted, self._path)

    def restore(self, run: Run) -> None:
        """Bring a run to the state that is stored, if there is one."""
        path = self._path / _STATE
        if not path.exists():
            return
        stored = read_tensors(path)
        set_weights(run.lm, _part(stored, _WEIGHT), path)
        try:
            run.restore(_part(stored, _MOMENT), _part(stored, _LOG))
        except (KeyError, RuntimeError, ValueError) as error:
            got = " ".join(str(error).split())
            raise ForeignFile(f"file {path}", "the state of a training", got, "remove it to train again") from None

    def write(self, run: Run) -> None:
        """Store the state of a run."""
        parts = {_WEIGHT: dict(run.lm.state_dict()), _MOMENT: run.moments(), _LOG: run.columns()}
        whole = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
        atomic.write_bytes(to_bytes(whole), self._path / _STATE)


def _part(stored: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}


def _hash(tensors: dict[str, Tensor]) -> str:
    """Return a hash of named tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.view(torch.uint8).numpy().tobytes() if array.ndim else str(array.item()).encode())
    return digest.hexdigest()


def _require_same(found: Any, wanted: dict[str, Any], path: Path) -> None:
    if found == wanted:
        return
    if not isinstance(found, dict) or found.get("format") != wanted["format"]:
        got = "something else"
        raise ForeignFile(f"directory {path}", "the state of a training", got, "choose a new or an empty directory")
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    expected, got = (
        ", ".join(f"{name}={str(side.get(name))[:20]}" for name in differing) for side in (wanted, found)
    )
    remedy = "choose another out, or repeat the call that began it"
    raise ForeignFile(f"directory {path} holds another training", expected, got, remedy)
