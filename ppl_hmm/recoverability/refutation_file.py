"""Refutations as JSON, complete with their model: floats in hexadecimal, weights by the numbers of their texts.

``docs/checkers/check_refutation.py`` checks such a file without this package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from ppl_hmm.base.atomic import as_path, write_bytes
from ppl_hmm.errors import ForeignFile
from ppl_hmm.models import HMM
from ppl_hmm.tasks import PosteriorTask

if TYPE_CHECKING:
    from ppl_hmm.recoverability.refutation import Refutation

_DAMAGED = "restore it from a copy, or make it again"
#: What the file says that it is.
FORMAT = "ppl_hmm refutation 1"

R = TypeVar("R", bound="Refutation")


def write(refutation: Refutation, path: str | Path) -> None:
    """Write a refutation to a file, whole or not at all."""
    model = refutation.model
    content = {
        "format": FORMAT,
        "claim": refutation.explain(),
        **{name: _hex(getattr(model, name).tolist()) for name in HMM.dimensions},
        "task": _hex(refutation.task.weights.tolist()),
        "classes": list(refutation.classes),
        "tolerance": refutation.tolerance.hex(),
        "margin": refutation.margin.hex(),
        "texts": refutation.texts.tolist(),
        "labels": refutation.labels.tolist(),
        "exponents": refutation.exponents.tolist(),
        "cover": refutation.cover.tolist(),
        "weights": [{str(n): leaf[n].hex() for n in np.flatnonzero(leaf)} for leaf in refutation.weights],
    }
    # One entry a line, so that what changes can be seen.
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()]
    write_bytes(("{\n" + ",\n".join(lines) + "\n}\n").encode(), path)


def read(kind: type[R], path: str | Path) -> R:
    """Return the refutation that a file holds."""
    path = as_path(path)
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return _built(kind, content)
    except OSError as error:
        reason, remedy = error.strerror or str(error), "check the path"
    except KeyError as error:
        reason, remedy = f"one without {error}", _DAMAGED
    except (ArithmeticError, AttributeError, IndexError, RecursionError, TypeError, ValueError) as error:
        reason, remedy = (str(error) or type(error).__name__).splitlines()[0], _DAMAGED
    raise ForeignFile(f"file {path}", "a refutation, as Refutation.save writes it", reason, remedy)


def _built(kind: type[R], content: dict[str, Any]) -> R:
    texts = np.array(content["texts"], np.int64)
    weights = np.zeros((len(content["weights"]), len(texts)))
    for row, leaf in zip(weights, content["weights"], strict=True):
        for text, weight in leaf.items():
            row[int(text)] = float.fromhex(weight)
    first, second = content["classes"]
    initial, transition, emission = (torch.from_numpy(_floats(content[name])) for name in HMM.dimensions)
    return kind(
        model=HMM(initial, transition, emission),
        task=PosteriorTask(torch.from_numpy(_floats(content["task"]))),
        classes=(int(first), int(second)),
        texts=texts,
        labels=np.array(content["labels"], np.int64),
        exponents=np.array(content["exponents"], np.int64),
        tolerance=float.fromhex(content["tolerance"]),
        margin=float.fromhex(content["margin"]),
        cover=np.array([[int(entry) for entry in node] for node in content["cover"]], object),
        weights=weights,
    )


def _hex(values: Any) -> Any:
    """Return nested lists of floats in hexadecimal."""
    return [_hex(value) for value in values] if isinstance(values, list) else values.hex()


def _floats(values: list) -> np.ndarray:
    """Return an array of nested lists of hexadecimal floats."""

    def parsed(entry: Any) -> Any:
        return [parsed(each) for each in entry] if isinstance(entry, list) else float.fromhex(entry)

    return np.array(parsed(values), float)
