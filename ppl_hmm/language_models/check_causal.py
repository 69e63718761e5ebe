"""The rules of causal language models, as their check tests them."""

from __future__ import annotations

import torch

from ppl_hmm.language_models.check_probe import Probe
from ppl_hmm.language_models.checked import Fault, Rule, require_same
from ppl_hmm.schema import Requirement


def causal_rules(probe: Probe) -> list[Rule]:
    """Return the rules of :class:`~ppl_hmm.CausalLM`."""
    laws = (Requirement.SIZES, Requirement.LAWS)

    def next_token_laws() -> None:
        probe.next_token_laws(probe.tokens)
        probe.laws_after(probe.tokens)

    def repeatable() -> None:
        remedy = "switch dropout off, .eval(), and draw no random numbers"
        require_same(probe.laws_after(probe.tokens), probe.laws_after(probe.tokens), "the same call twice", remedy)

    def causal() -> None:
        every = probe.next_token_laws(probe.tokens)
        for position in range(probe.tokens.shape[1]):
            found = probe.next_token_laws(probe.changed(position))[..., : position + 1, :]
            what = f"laws up to position {position} with another token there"
            require_same(found, every[..., : position + 1, :], what, "mask the future: a law reads its prefix alone")
        last = probe.laws_after(probe.tokens)
        require_same(last, every[..., -1, :], "law_after beside next_token_laws", "compute both by one function")

    def lengths() -> None:
        every = probe.next_token_laws(probe.tokens)
        expected = torch.stack([every[..., b, end, :] for b, end in enumerate(probe.lengths.tolist())], dim=-2)
        found = probe.laws_after(probe.tokens, lengths=probe.lengths)
        require_same(found, expected, "texts that end early", "return the law at the end of each text, lengths[b]")

    def texts_apart() -> None:
        found, expected = probe.laws_after(probe.tokens[:1]), probe.laws_after(probe.tokens)[..., :1, :]
        require_same(found, expected, "a text by itself", "no statistics of the batch may enter the laws")

    def suffix() -> None:
        found = probe.laws_after(probe.tokens[:, :-2], suffix=probe.tokens[0, -2:])
        longer = torch.cat([probe.tokens[:, :-2], probe.tokens[:1, -2:].expand(len(probe.tokens), -1)], dim=1)
        require_same(found, probe.laws_after(longer), "a suffix of tokens", "read the suffix at the end of each text")

    def prompt() -> None:
        one, other = (probe.prompt(seed=seed) for seed in (0, 1))
        found = probe.laws_after(probe.tokens, one)
        every = probe.next_token_laws(probe.tokens, one)[..., -1, :]
        require_same(every, found, "law_after beside next_token_laws after a prompt", "use one function")
        short = probe.laws_after(probe.tokens[:, :1], one)
        if torch.equal(short, probe.laws_after(probe.tokens[:, :1], other)):
            raise Fault("two prompts give the same laws", "let the prompt's rows enter the context")

    def prompt_gradient() -> None:
        rows = probe.prompt().requires_grad_()
        probe.require_gradient(probe.lm.law_after(probe.tokens[:, :1], prompt=rows), rows)

    return [
        Rule(Requirement.LAWS, next_token_laws, (Requirement.SIZES,)),
        Rule(Requirement.REPEATABLE, repeatable, laws),
        Rule(Requirement.CAUSAL, causal, (*laws, Requirement.REPEATABLE)),
        Rule(Requirement.LENGTHS, lengths, (*laws, Requirement.REPEATABLE)),
        Rule(Requirement.TEXTS_APART, texts_apart, (*laws, Requirement.REPEATABLE)),
        Rule(Requirement.SUFFIX, suffix, (*laws, Requirement.REPEATABLE)),
        Rule(Requirement.PROMPT, prompt, (*laws, Requirement.REPEATABLE)),
        Rule(Requirement.PROMPT_GRADIENT, prompt_gradient, (*laws, Requirement.PROMPT)),
    ]
