"""What ``ppl-hmm audit`` reads where there is no model of the text: features, or texts, labels and a language model."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from ppl_hmm.audits.of_language_model import audit_features, audit_language_model
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.language_models.checkpoints import load_language_model
from ppl_hmm.language_models.protocol import CAUSAL, MASKED
from ppl_hmm.schema import Reader
from ppl_hmm.storage.texts import load_texts

_COMMAND = "ppl-hmm audit"
_NEEDED, _OTHERS = ("features", "labels"), ("prompted", "tokens", "groups")
# What arrays hold, where that is not floats.
_KINDS = {"labels": "str", "groups": "str", "tokens": "int"}


def require_alone(*given: object) -> None:
    """Raise :class:`InvalidInput` where a model, a task, an example or a position is given as well."""
    if any(each is not None for each in given):
        expected, got = "--features or --lm alone", "a model, a task, an example or a position, too"
        raise InvalidInput(_COMMAND, expected, got, "leave these out: labels are given, and none follow from a model")


def audited(
    features: Path | None,
    text: Path | None,
    labels: Path | None,
    lm: Path | None,
    reader: str,
    n_prompt_tokens: int,
    seed: int,
) -> xr.DataTree:
    """Return the audit of a file of features, or of texts, labels and a language model.

    Raises
    ------
    InvalidInput, ForeignFile
        Files that are missing, of another kind, or do not fit.
    """
    if features is not None:
        if lm is not None or text is not None or labels is not None:
            raise InvalidInput(_COMMAND, "--features, or --text, --labels and --lm", "both", "give one")
        return audit_features(**load_features(features), seed=seed)
    if lm is None or text is None or labels is None:
        raise InvalidInput(_COMMAND, "--text, --labels and --lm", "not all of them", "give all three")
    model = load_language_model(lm)
    wanted = CAUSAL if reader == Reader.CAUSAL else MASKED
    if not hasattr(model, wanted.laws):
        raise InvalidInput(f"--reader {reader}", f"a {wanted.kind}", type(model).__name__, "choose the other reader")
    options: dict[str, Any] = {"reader": reader, "n_prompt_tokens": n_prompt_tokens, "seed": seed}
    _require_no_blank_line(text, "a text", "label")
    return audit_language_model(cast(Any, model), load_texts(text), load_labels(labels), **options)


def load_features(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file that :func:`audit_features` takes.

    Raises
    ------
    ForeignFile
        No such file, no npz, an array that is missing or holds objects.
    """
    content = _bytes(path, "an .npz file of features")
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ForeignFile(f"file {path}", "an .npz file", "something else", "write it with numpy.savez")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            names = ", ".join(stored.files)
            found = {name: _array(stored, name, path) for name in (*_NEEDED, *_OTHERS) if name in stored.files}
    except ForeignFile:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ForeignFile(f"file {path}", "arrays of numbers or text", reason, "write it with numpy.savez") from None
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        expected = f"arrays {' and '.join(_NEEDED)}"
        raise ForeignFile(f"file {path}", expected, names or "none", "write numpy.savez(file, features=…, labels=…)")
    return found


def load_labels(path: Path) -> list[str]:
    """Return the class of each text: a line each.

    Raises
    ------
    ForeignFile
        No such file, no text, or a blank line before another.
    """
    _require_no_blank_line(path, "a label", "text")
    try:
        lines = _bytes(path, "a file of labels").decode().splitlines()
    except UnicodeDecodeError:
        raise ForeignFile(f"file {path}", "text in UTF-8", "other bytes", "write a class a line") from None
    return [line.strip() for line in lines if line.strip()]


def _require_no_blank_line(path: Path, expected: str, other: str) -> None:
    """Raise where a blank line precedes others in a file of lines: texts and labels belong together by their lines."""
    if path.suffix in (".npy", ".nc"):
        return
    lines = _bytes(path, f"a file with {expected} a line").rstrip().splitlines()
    blank = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    if blank is not None:
        what, remedy = f"line {blank} of file {path}", f"drop it together with its {other}"
        raise ForeignFile(what, expected, "a blank line", remedy)


def _array(stored: Any, name: str, path: Path) -> np.ndarray:
    """Return an array of an npz file that must not hold objects, such as the strings of pandas."""
    try:
        return stored[name]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        kind = _KINDS.get(name, "float")
        got, remedy = f"array {name} of objects", f"save {name}.astype({kind})"
        raise ForeignFile(f"file {path}", "arrays of numbers or text", got, remedy) from None


def _bytes(path: Path, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ForeignFile(f"file {path}", expected, error.strerror or str(error), "check the path") from None
