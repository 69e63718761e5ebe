"""Plain text files: where texts end, and one line for every file that is none."""

import pytest

from ppl_hmm import ForeignFile, InvalidInput, read_text

CONTENT = "One  day.\nTwo days?\n \nNew  paragraph, here. End\r\n"


@pytest.mark.parametrize(
    ("sentence", "texts"),
    [
        ("file", ["One day. Two days? New paragraph, here. End"]),
        ("paragraph", ["One day. Two days?", "New paragraph, here. End"]),
        ("line", ["One day.", "Two days?", "New paragraph, here. End"]),
        ("sentence", ["One day.", "Two days?", "New paragraph, here.", "End"]),
    ],
)
def test_where_texts_end(sentence, texts, tmp_path):
    (tmp_path / "a.txt").write_bytes(CONTENT.encode())
    assert read_text(tmp_path / "a.txt", "word", sentence) == texts


def test_encodings(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffÜber ☃".encode())
    assert read_text(str(tmp_path / "a.txt")) == ["Über ☃"]
    (tmp_path / "b.txt").write_bytes("Über alles".encode("latin-1"))
    assert read_text(tmp_path / "b.txt", encoding="latin-1") == ["Über alles"]
    (tmp_path / "c.txt").write_bytes("Über ☃".encode("utf-16"))
    assert read_text(tmp_path / "c.txt", encoding="utf-16") == ["Über ☃"]


@pytest.mark.parametrize("content", ["1,2,3\n4,1\n", "10 2 -1\r\n3 4 5", "1;2;3"])
def test_numbers_that_are_read_digit_by_digit_are_warned_of(content, tmp_path, caplog):
    (tmp_path / "sessions.csv").write_text(content)
    assert read_text(tmp_path / "sessions.csv")
    assert "sessions.csv holds numbers, and each char of them is read as a token of its own" in caplog.text


@pytest.mark.parametrize("content", ["0110\n1001", "On 1, 2 and 3", "3,141 is a number", "- , -"])
def test_text_with_digits_is_text(content, tmp_path, caplog):
    (tmp_path / "a.txt").write_text(content)
    assert read_text(tmp_path / "a.txt")
    assert not caplog.text


BAD = {
    "missing": (None, "char", r"expected a text file, got No such file or directory; check the path"),
    "empty": (b"", "char", r"expected text, got an empty file; choose"),
    "blank": (b" \n\n", "word", r"expected text, got an empty file"),
    "one-token": (b"aaaa", "char", r"expected at least two different chars, got only 'a'"),
    "one-word": (b"so so so", "word", r"expected at least two different words, got only 'so'"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0", "char", r"expected a text file, got a binary one: byte 0x00 at 8"),
    "wide": ("ab".encode("utf-16-le"), "char", r"got a binary one: byte 0x00 at 1"),
    "latin": ("a Ü b".encode("latin-1"), "char", r"expected text in utf-8, got byte 0xdc at 2; name its encoding"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_line(kind, tmp_path):
    content, unit, message = BAD[kind]
    path = tmp_path / "corpus.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ForeignFile, match=message) as caught:
        read_text(path, unit)
    assert "\n" not in str(caught.value)
    assert "corpus.txt" in str(caught.value)


def test_bad_options(tmp_path):
    (tmp_path / "a.txt").write_text("ab")
    with pytest.raises(InvalidInput, match=r"unknown unit: expected one of char, word, got 'chars'"):
        read_text(tmp_path / "a.txt", "chars")
    with pytest.raises(InvalidInput, match=r"unknown sentence: expected one of file, line"):
        read_text(tmp_path / "a.txt", sentence="page")
    with pytest.raises(InvalidInput, match=r"encoding: expected one that Python knows, got 'klingon'"):
        read_text(tmp_path / "a.txt", encoding="klingon")
    with pytest.raises(InvalidInput, match=r"encoding: expected one that Python knows, got 3"):
        read_text(tmp_path / "a.txt", encoding=3)
    with pytest.raises(InvalidInput, match="path"):
        read_text(3)
