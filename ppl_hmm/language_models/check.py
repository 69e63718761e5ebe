"""Does an object meet the protocol of a language model? A rule for each thing that heads and prompts rely on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base.tokens import MASK
from ppl_hmm.language_models.check_causal import causal_rules
from ppl_hmm.language_models.check_probe import Probe
from ppl_hmm.language_models.checked import Fault, LanguageModelCheck, Rule, outcomes, require_same
from ppl_hmm.language_models.protocol import CAUSAL, MASKED, Wanted, checked_conditionals, require_members
from ppl_hmm.schema import Requirement

_CONSTRAINTS = ("nonnegative", "real")


def check_language_model(lm: object, tokens: Any = None) -> LanguageModelCheck:
    """Test an object against the protocol of masked or causal language models.

    Parameters
    ----------
    lm
        Any object. One with ``law_after`` and without ``conditionals`` is held to :class:`~ppl_hmm.CausalLM`, any other
        to :class:`~ppl_hmm.MaskedLM`.
    tokens
        Text (B,T), B ≥ 2 and T ≥ 4, without masks, to test with. By default three random texts of six tokens, without
        those that ``lm.not_text`` holds, where there is one; pass text where the language model gives random text
        probability zero.

    Returns
    -------
    LanguageModelCheck
        Each requirement with its outcome, what was found, and what to mend; ``str()`` is a report. A bad language model
        raises nothing: what its methods raise is part of the report.

    See Also
    --------
    MaskedLM, CausalLM : The protocols.
    from_masked_lm, from_causal_lm : Hugging Face models as such language models.
    audit_language_model : What heads and prompts learn from one.

    Notes
    -----
    Some twenty calls on short text. Laws of the same context may differ by 1e-8 in float64, 1e-4 in float32 and 0.02 in
    half precision. A test with some texts cannot prove that a requirement holds for all.

    Examples
    --------
    >>> from ppl_hmm import OracleLM, check_language_model, example
    >>> model, _ = example("aliased")
    >>> check_language_model(OracleLM(model)).passed
    True
    >>> print(check_language_model(model).failed[0].remedy)
    wrap the model: OracleLM(model)
    """
    causal = _has(lm, CAUSAL.laws) and not _has(lm, MASKED.laws)
    wanted = CAUSAL if causal else MASKED
    probe = Probe(lm, tokens)
    rules = [
        Rule(Requirement.MEMBERS, lambda: _members(lm, wanted)),
        Rule(Requirement.SIZES, lambda: _sizes(lm), (Requirement.MEMBERS,)),
        *(causal_rules(probe) if causal else _masked_rules(probe)),
    ]
    return LanguageModelCheck(type(lm).__name__, wanted.protocol, tuple(outcomes(rules)))


def _has(lm: object, member: str) -> bool:
    """Say whether there is a member; one that raises is there."""
    try:
        return hasattr(lm, member)
    except Exception:  # of code that is not ours
        return True


def _members(lm: object, wanted: Wanted) -> None:
    more = ("next_token_laws",) if wanted is CAUSAL else ("encode",)
    require_members("check_language_model", lm, *more, "prompt_shape", "prompt_constraint", wanted=wanted)


def _sizes(lm: Any) -> None:
    if not isinstance(lm.prompt_shape, tuple) or not all(isinstance(each, int) for each in lm.prompt_shape):
        raise Fault(f"prompt_shape is {lm.prompt_shape!r}", "return a tuple, e.g. (d_model,)")
    if lm.prompt_constraint not in _CONSTRAINTS:
        raise Fault(f"prompt_constraint is {lm.prompt_constraint!r}", "return 'real' for embeddings")


def _masked_rules(probe: Probe) -> list[Rule]:
    """Return the rules of :class:`~ppl_hmm.MaskedLM`."""
    lm, laws = probe.lm, (Requirement.SIZES, Requirement.LAWS)

    def full() -> Tensor:
        return probe.conditionals(probe.tokens)

    def masked_laws() -> None:
        full()
        probe.conditionals(torch.full_like(probe.tokens, MASK))

    def repeatable() -> None:
        require_same(full(), full(), "the same call twice", "switch dropout off, .eval(), and draw no random numbers")

    def positions() -> None:
        last = probe.tokens.shape[1] - 1
        for chosen in ([last], [1, 0]):
            found = probe.conditionals(probe.tokens, chosen)
            require_same(found, full()[..., chosen, :], f"positions={chosen}", "return the positions asked for")

    def leave_one_out() -> None:
        for position in range(probe.tokens.shape[1]):
            with_another = probe.conditionals(probe.changed(position), [position])
            hidden = probe.tokens.clone()
            hidden[:, position] = MASK
            for other in (with_another, probe.conditionals(hidden, [position])):
                remedy = "hide the token itself: mask it before the law at its position is computed"
                require_same(other, full()[..., [position], :], f"position {position} with another token there", remedy)

    def lengths() -> None:
        short = probe.tokens.clone()
        short[0, probe.lengths[0] :] = MASK
        found = probe.conditionals(probe.tokens, [0], lengths=probe.lengths)
        remedy = "read tokens from lengths[b] on as MASK, and MASK (−1) as not observed"
        require_same(found, probe.conditionals(short, [0]), "a text that ends early", remedy)

    def texts_apart() -> None:
        alone = probe.conditionals(probe.tokens[:1])
        require_same(alone, full()[..., :1, :, :], "a text by itself", "no statistics of the batch may enter the laws")

    def encode() -> None:
        for prompt in (None, probe.prompt()):
            found = lm.encode(probe.tokens).conditionals(prompt, [0])
            expected = probe.conditionals(probe.tokens, [0], prompt)
            require_same(found, expected, "encode(tokens).conditionals(prompt)", "compute both by one function")

    def prompt() -> None:
        prompts = probe.prompt(2)
        shape = (2, *lm.batch_shape, len(probe.tokens), 1, lm.vocabulary_size)
        found = checked_conditionals(lm, lm.encode(probe.tokens).conditionals(prompts, [0]), shape)
        for one, own in zip(prompts, found, strict=True):
            expected = probe.conditionals(probe.tokens, [0], one)
            require_same(own, expected, "two prompts at once", "keep leading dimensions of prompts in front of laws")
        if torch.equal(found[0], found[1]):
            raise Fault("two prompts give the same laws", "let the prompt's rows enter the context")

    def prompt_gradient() -> None:
        rows = probe.prompt().requires_grad_()
        probe.require_gradient(lm.encode(probe.tokens).conditionals(rows, [0]), rows)

    return [
        Rule(Requirement.LAWS, masked_laws, (Requirement.SIZES,)),
        Rule(Requirement.REPEATABLE, repeatable, laws),
        Rule(Requirement.POSITIONS, positions, (*laws, Requirement.REPEATABLE)),
        Rule(Requirement.LEAVE_ONE_OUT, leave_one_out, (*laws, Requirement.POSITIONS)),
        Rule(Requirement.LENGTHS, lengths, (*laws, Requirement.POSITIONS)),
        Rule(Requirement.TEXTS_APART, texts_apart, (*laws, Requirement.REPEATABLE)),
        Rule(Requirement.ENCODE, encode, (*laws, Requirement.POSITIONS)),
        Rule(Requirement.PROMPT, prompt, (*laws, Requirement.POSITIONS)),
        Rule(Requirement.PROMPT_GRADIENT, prompt_gradient, (*laws, Requirement.PROMPT)),
    ]
