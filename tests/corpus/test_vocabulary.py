"""Vocabularies: there and back on any text, what is cut off, labels in files, and what is refused."""

import numpy as np
import pytest
from comparisons import case, check
from hypothesis import given, strategies as st

from ppl_hmm import HMM, MASK, Vocabulary, load, posterior, random_hmm, save
from ppl_hmm.storage import files

TEXT = "The cat's hat; the cat's mat!"
#: Any characters that a text file can hold, control characters and other scripts included.
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)


@given(texts=st.lists(PLAIN, min_size=1, max_size=5))
def test_characters_come_back(texts):
    vocabulary = Vocabulary.from_text(texts)
    tokens, lengths = vocabulary.encode(texts)
    assert tokens.shape == (len(texts), max(map(len, texts)))
    assert lengths.tolist() == list(map(len, texts))
    assert vocabulary.decode(tokens) == texts
    assert (tokens != vocabulary.unknown).all()
    assert set(vocabulary.tokens) == {*"".join(texts), "<unknown>"}


def test_words_and_their_order():
    vocabulary = Vocabulary.from_text(TEXT, unit="word", lowercase=True)
    assert vocabulary.tokens == ("cat's", "the", "!", ";", "hat", "mat", "<unknown>")
    tokens, lengths = vocabulary.encode([TEXT, "dog", ""])
    assert lengths.tolist() == [8, 1, 0]
    assert vocabulary.decode(tokens) == ["the cat's hat ; the cat's mat !", "<unknown>", ""]
    assert vocabulary.decode([[0, 1], [4]]) == ["cat's the", "hat"]
    assert vocabulary.decode([0, MASK, 4, MASK]) == "cat's <mask> hat"
    assert vocabulary.decode(np.array([1])) == "the"


def test_what_is_rare_is_unknown():
    for options in ({"max_size": 3}, {"min_count": 2}):
        vocabulary = Vocabulary.from_text("a b a c a b", unit="word", **options)
        assert vocabulary.tokens == ("a", "b", "<unknown>")
        assert vocabulary.encode("a c d")[0].tolist() == [[0, 2, 2]]
    assert len(Vocabulary.from_text("abc")) == 4
    assert Vocabulary.from_text("<unknown> is unknown", unit="word").encode("<unknown>")[0].tolist() != [[4]]


def test_files_carry_it(tmp_path):
    vocabulary = Vocabulary.from_text("Ünï\n ☃ 😀 a\tb", lowercase=True)
    save(vocabulary, tmp_path / "vocabulary.nc")
    assert load(tmp_path / "vocabulary.nc") == vocabulary
    model = random_hmm("dirichlet", 3, len(vocabulary), seed=0).assign_names(token=vocabulary.tokens)
    save(model, tmp_path / "model.nc")
    assert load(tmp_path / "model.nc").names == vocabulary.names
    with pytest.raises(files.InvalidInput, match="expected a model, got Vocabulary"):
        files.load_model(tmp_path / "vocabulary.nc")


def test_a_model_in_another_order_is_aligned():
    vocabulary = Vocabulary.from_text("abracadabra")
    model = random_hmm("dirichlet", 2, len(vocabulary), seed=1).assign_names(token=vocabulary.tokens)
    shuffled = HMM.from_dataset(model.to_dataset().sortby("token", ascending=False))
    assert shuffled.names["token"] != vocabulary.tokens
    assert shuffled.aligned_to(vocabulary).identical(model)
    tokens, lengths = vocabulary.encode(["cab", "abracadabra"])
    aligned = posterior(shuffled.aligned_to(vocabulary), tokens, lengths=lengths)
    assert (aligned.initial == posterior(model, tokens, lengths=lengths).initial).all()
    with pytest.raises(ValueError, match="dimension 'token' of HMM, as the model has them"):
        shuffled.aligned_to(Vocabulary.from_text("xyzuv"))


def test_names_are_assigned_and_taken_away():
    model = random_hmm("dirichlet", 2, 3, seed=0).assign_names(state=("vowel", "consonant"), token="abc")
    assert model.names == {"state": ("vowel", "consonant"), "token": ("a", "b", "c")}
    assert model.assign_names(state=None).names == {"token": ("a", "b", "c")}
    assert list(model.to_dataset()["transition"].coords["state_next"].values) == ["vowel", "consonant"]
    check(lambda: model.assign_names(word=("a",)), "names", "dimensions among state", "word")
    check(lambda: model.assign_names(state=("one",)), "state of initial", "2 labels", "1")


BAD = [
    case("unit", lambda: Vocabulary.from_text("abc", "letter"), "unit", "char, word", "'letter'"),
    case("no text", lambda: Vocabulary.from_text(""), "text of a Vocabulary", "at least one char", "none"),
    case("blank words", lambda: Vocabulary.from_text(" \n", "word"), "text of a Vocabulary", "one word", "none"),
    case("all rare", lambda: Vocabulary.from_text("ab", min_count=2), "chars of a Vocabulary", "occurs 2", "1 at most"),
    case("size", lambda: Vocabulary.from_text("ab", max_size=1), "max_size", "at least 2", "1"),
    case("bytes", lambda: Vocabulary.from_text(b"ab"), "text", "a string", "bytes"),
    case("numbers", lambda: Vocabulary.from_text([1, 2]), "text", "a list of strings", "int"),
    case("one string of tokens", lambda: Vocabulary("abc"), "tokens of a Vocabulary", "a list of strings", "str"),
    case("equal tokens", lambda: Vocabulary(("a", "a")), "tokens of a Vocabulary", "different", "'a' twice"),
    case("no tokens", lambda: Vocabulary(()), "tokens of a Vocabulary", "at least one", "none"),
    case("tokens of numbers", lambda: Vocabulary((0, 1)), "tokens of a Vocabulary", "strings", "0"),
    case("nothing to encode", lambda: Vocabulary(("a",)).encode([]), "texts to encode", "one char", "no text"),
    case("empty texts", lambda: Vocabulary(("a",)).encode(["", ""]), "texts to encode", "one char", "empty texts"),
    case("token beyond V", lambda: Vocabulary(("a",)).decode([0, 2]), "position 1", "0..1", "2"),
]


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), BAD)
def test_bad_input(call, what, expected, got, error):
    check(call, what, expected, got, error)
