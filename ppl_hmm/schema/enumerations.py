"""What decides control flow: verdicts, causes, remedies and their like."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """The answer to a question of recoverability."""

    RECOVERABLE = "recoverable"  # on every text
    SEPARATES = "separates these texts"  # which says nothing of others
    NOT_RECOVERABLE = "not recoverable"
    UNDECIDED = "undecided"


class Cause(StrEnum):
    """What decided a verdict. Advice and reports follow from it."""

    CONDITION_HOLDS = "condition holds"  # a theorem's sufficient condition
    CONDITION_FAILS = "condition fails"  # which proves nothing
    CONSTANT_LABEL = "constant label"  # every text has the same label
    WITNESS = "witness"  # texts that no head classifies
    REFUTATION = "refutation"  # texts that no prompt with any head classifies
    SEARCH = "search"  # weights were found that classify the texts that were given
    ROUNDING = "rounding"  # a head exists in exact arithmetic, and float64 cannot read what it reads
    TOO_LARGE = "too large"  # the condition was not computed
    CONTRADICTED = "contradicted"  # the texts that were read contradict the verdict, which is withdrawn

    @property
    def verdict(self) -> Verdict:
        """The verdict that it leads to."""
        if self in (Cause.CONDITION_HOLDS, Cause.CONSTANT_LABEL):
            return Verdict.RECOVERABLE
        if self is Cause.SEARCH:
            return Verdict.SEPARATES
        refuted = self in (Cause.WITNESS, Cause.REFUTATION)
        return Verdict.NOT_RECOVERABLE if refuted else Verdict.UNDECIDED

    @classmethod
    def of_condition(cls, holds: bool) -> Cause:
        """Return what a sufficient condition decides that holds, or fails."""
        return cls.CONDITION_HOLDS if holds else cls.CONDITION_FAILS


class Reader(StrEnum):
    """What a head reads of a text."""

    MASKED = "masked"  # conditionals at masks, of a masked language model
    CAUSAL = "causal"  # the law of the next token, of a causal one


class Remedy(StrEnum):
    """What an audit recommends."""

    NOTHING = "nothing"  # every text has the same label
    HEAD = "head"
    MASKS = "masks"  # a head on several masks
    PROMPT = "prompt"  # with a head
    ATTENTION = "attention"
    ATTENTION_PROMPT = "attention-prompt"
    CHANNEL = "channel"  # the likelihoods of prompts
    LOG_PROBABILITIES = "log-probabilities"  # a head on them
    BAG_OF_TOKENS = "bag-of-tokens"  # a head on how often each token occurs: no language model
    UNKNOWN = "unknown"  # nothing could be measured


class Basis(StrEnum):
    """What a recommendation rests on."""

    PROOF = "proof"  # a certificate, for every text
    MEASUREMENT = "measurement"  # accuracy on new texts
    NONE = "none"


class DrawsOf(StrEnum):
    """What the draws of a Bayesian fit are draws of."""

    CHAIN = "chain"  # whose limit is the posterior
    GUIDE = "guide"  # an approximation of it, which spreads too little

    @classmethod
    def of_method(cls, method: str) -> DrawsOf:
        """Return what a method of ``fit_bayes`` draws from."""
        return cls.GUIDE if method == "svi" else cls.CHAIN


class Flaw(StrEnum):
    """What is wrong with a proof that does not hold."""

    COVER = "cover"  # its cones are not known to hold every head
    WEIGHTS = "weights"  # a weight is negative, or no number
    LABEL = "label"  # a text's label is not the one that is claimed, by the margin that is claimed
    LEAF = "leaf"  # a weighted score is not negative for every prompt and every head of the cone


class Agreement(StrEnum):
    """What chains of draws say of each other."""

    MIXED = "mixed"  # all agree
    UNFINISHED = "unfinished"  # no two are far apart, and yet they do not agree
    MODES = "different modes"  # some stay where others do not come
    UNKNOWN = "unknown"  # too few draws to tell


class Control(StrEnum):
    """What a probe of beliefs is compared with: features that need no network."""

    RAW_TOKENS = "raw tokens"  # the last few, one-hot each
    MARKOV = "Markov"  # which the last few are, one-hot together
    NEXT_TOKEN = "next-token law"
    LOG_NEXT_TOKEN = "log next-token law"
    FUTURE = "k-token law"  # the joint law of the next few


class Outcome(StrEnum):
    """What came of one check of a language model."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # what it rests on failed, or does not apply


class Requirement(StrEnum):
    """What heads and prompts require of a language model."""

    MEMBERS = "members"
    SIZES = "sizes"  # vocabulary_size, batch_shape, prompt_shape and prompt_constraint
    LAWS = "laws"  # shape, dtype, no NaN, no logits, rows that sum to one
    REPEATABLE = "repeatable"  # the same call, the same laws
    POSITIONS = "positions"  # some positions are those of all
    LEAVE_ONE_OUT = "leave one out"  # the law at a position does not depend on its token
    CAUSAL = "causal"  # the law after a prefix does not depend on what follows
    LENGTHS = "lengths"  # no token past the end is read
    TEXTS_APART = "texts apart"  # a text has the same laws in any batch
    ENCODE = "encode"  # encoded text has the same laws
    SUFFIX = "suffix"  # tokens behind a text have the same law as a longer text
    PROMPT = "prompt"  # soft tokens are accepted, one or many prompts at a time, and change laws
    PROMPT_GRADIENT = "prompt gradient"
