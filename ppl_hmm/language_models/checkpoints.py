"""Trained language models as files: weights in safetensors, the rest in JSON, nothing that could run code."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_hmm._version import __version__
from ppl_hmm.base.atomic import as_path, written_aside
from ppl_hmm.errors import ForeignFile
from ppl_hmm.language_models.extra import require_extra
from ppl_hmm.language_models.trained import Link, TrainedLM

_WEIGHTS, _DESCRIPTION = "weights.safetensors", "language_model.json"
_OF_HUGGING_FACE = "config.json"
_FORMAT = "ppl_hmm language model"

# Where each kind is defined.
_MODULES = {
    "BidirectionalLM": "bidirectional",
    "TransformerLM": "transformer",
    "CausalGRU": "causal_gru",
    "CausalTransformer": "causal_transformer",
}


def save_language_model(lm: TrainedLM, path: str | Path) -> None:
    """Write a language model to a new directory.

    Raises
    ------
    ForeignFile
        There is something already, or the place cannot be written.
    """
    path = as_path(path, "directory")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ForeignFile(f"directory {path}", "a new or an empty one", "one with files", "choose another path")
    with written_aside(path, "directory") as aside:
        aside.mkdir(parents=True)
        (aside / _WEIGHTS).write_bytes(to_bytes(dict(lm.state_dict())))
        (aside / _DESCRIPTION).write_text(json.dumps(description(lm), indent=2))


def load_language_model(path: str | Path) -> TrainedLM:
    """Return the language model that ``save`` of one wrote to a directory.

    Raises
    ------
    ForeignFile
        No such directory, files of something else, damaged ones, weights of another architecture.

    See Also
    --------
    ppl_hmm.train : Trains what is saved.
    ppl_hmm.load : Models, tasks, heads and prompts.

    Examples
    --------
    >>> import tempfile
    >>> from ppl_hmm import BidirectionalLM, load_language_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     BidirectionalLM(4, width=8, seed=0).save(folder + "/lm")
    ...     load_language_model(folder + "/lm").width
    8
    """
    path = as_path(path, "directory")
    if (path / _OF_HUGGING_FACE).exists() and not (path / _DESCRIPTION).exists():
        raise ForeignFile(
            f"directory {path}",
            "a language model that lm.save(…) wrote",
            "a Hugging Face model",
            "in Python use from_masked_lm(model, tokenizer, label_words=[…]) of it, e.g. in audit_language_model(…); "
            "ppl-hmm audit reads its probe_features(…) from an .npz file, --features",
        )
    found = read_json(path / _DESCRIPTION, "the description of a language model")
    kind = found.get("kind") if isinstance(found, dict) and found.get("format") == _FORMAT else None
    if kind not in _MODULES:
        got = f"kind {kind!r}" if kind else "none"
        expected = f"a description of a {', '.join(_MODULES)}"
        raise ForeignFile(f"file {path / _DESCRIPTION}", expected, got, "pass a directory that lm.save(…) wrote")
    built = getattr(importlib.import_module(f"ppl_hmm.language_models.{_MODULES[kind]}"), kind)
    try:
        lm = built(**found["configuration"], seed=0)
        lm.link = Link(found["link"])
    except (KeyError, TypeError, ValueError) as error:
        got = " ".join(str(error).split())
        raise ForeignFile(f"file {path / _DESCRIPTION}", f"sizes of a {kind}", got, "save it again") from None
    set_weights(lm, read_tensors(path / _WEIGHTS), path / _WEIGHTS)
    return lm


def description(lm: TrainedLM) -> dict[str, Any]:
    """Return what builds a language model of this shape again."""
    return {
        "format": _FORMAT,
        "version": __version__,
        "kind": type(lm).__name__,
        "configuration": lm.configuration,
        "link": str(lm.link),
    }


def set_weights(lm: TrainedLM, weights: dict[str, Tensor], path: Path) -> None:
    """Put weights that were read from a file into a language model.

    Raises
    ------
    ForeignFile
        Other names or shapes, or numbers that are not finite.
    """
    own = lm.state_dict()
    alike = {name for name in own if name in weights and weights[name].shape == own[name].shape}
    wrong = sorted({*weights, *own} - alike)
    what, expected = f"file {path}", f"the weights of a {type(lm).__name__} of width {lm.width}"
    if wrong:
        name = wrong[0]
        got = f"{name} of shape {tuple(weights[name].shape)}" if name in weights else f"no {name}"
        raise ForeignFile(what, expected, got, "it is of another architecture: load it beside its own description")
    if not all(torch.isfinite(each).all() for each in weights.values()):
        raise ForeignFile(what, expected, "NaN or infinity", "train it again")
    lm.load_state_dict(weights)


def to_bytes(tensors: dict[str, Tensor]) -> bytes:
    """Return tensors as the content of a file."""
    library = require_extra("files of language models", "safetensors.torch")
    return library.save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; raise :class:`ForeignFile` for a missing or damaged one."""
    library = require_extra("files of language models", "safetensors.torch")
    try:
        return library.load(path.read_bytes())
    except Exception as error:  # of a damaged file safetensors raises an exception of its own, or one of several kinds
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        remedy = "restore it, or write it again"
        raise ForeignFile(f"file {path}", "weights in safetensors", " ".join(reason.split()), remedy) from None


def read_json(path: Path, what: str) -> Any:
    """Return what a JSON file holds; raise :class:`ForeignFile` for a missing or damaged one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no JSON"
        raise ForeignFile(f"file {path}", what, reason, "pass a directory that this package wrote") from None
