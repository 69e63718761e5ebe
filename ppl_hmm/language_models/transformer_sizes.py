"""Sizes of a transformer, checked."""

from __future__ import annotations

from typing import NamedTuple

from ppl_hmm.errors import InvalidInput, at_least

#: Share of training in which the learning rate rises: without it, some transformers never learn.
WARM_UP = 0.1


class TransformerSizes(NamedTuple):
    """Sizes of a transformer; ``longest`` is how many tokens it can read, soft ones included."""

    width: int
    layers: int
    heads: int
    longest: int

    @classmethod
    def checked(cls, width: int, layers: int, heads: int, longest: int) -> TransformerSizes:
        """Return sizes; raise :class:`InvalidInput` for one below one, or a width that the heads do not divide."""
        sizes = {"width": width, "layers": layers, "heads": heads, "longest": longest}
        found = cls(**{name: at_least(name, size, 1) for name, size in sizes.items()})
        if found.width % found.heads:
            got, remedy = f"width {width} with {heads} heads", "choose a multiple, such as width=64, heads=2"
            raise InvalidInput("width of a transformer", "a multiple of its heads", got, remedy)
        return found

    def require_room(self, length: int) -> None:
        """Raise :class:`InvalidInput` for more tokens than the transformer has positions for."""
        if length > self.longest:
            remedy = f"build it with longest={length}, and train it on text of that length"
            raise InvalidInput("text with its prompt", f"at most {self.longest} tokens", str(length), remedy)
