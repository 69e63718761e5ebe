"""Libraries that only the extra ``lm`` installs, loaded when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from ppl_hmm.errors import InvalidInput


def require_extra(what: str, module: str) -> Any:
    """Return a module of the extra ``lm``.

    Raises
    ------
    InvalidInput
        It is not installed: names what asks for it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        library = module.partition(".")[0]
        remedy = "pip install 'ppl-hmm[lm]'"
        raise InvalidInput(what, "the extra 'lm' installed", f"no module {library!r}", remedy) from None
