"""Words and their numbers: the tutorial's filter, the commonest words, and a file other programs can use."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionlens.errors import ModelError, OptionError
from captionlens.runtime.vocabulary import END, FILTERED, PAD, SPECIALS, START, UNK, Vocabulary, split_words

CAPTIONS = (
    "A dog runs, barking; a cat doesn't.",
    "Two dogs & a cat (asleep) - on a mat!",
    "The café's naïve Ünïcödé 犬 dog",
    "α ΟΔΟΣ οδος οδοσ İstanbul straße",
    "don't don't won't 42 3.5 x",
)


def test_the_tutorials_filter() -> None:
    # The `filters` of the tutorial's tf.keras Tokenizer, as it stands there.
    assert set(FILTERED) == set(r'!"#$%&()*+.,-/:;=?@[\]^_`{|}~')
    assert split_words("A man, riding a WAVE.") == ["a", "man", "riding", "a", "wave"]
    assert split_words('black-and-white cat_s "don\'t"\n\ttab') == [
        "black",
        "and",
        "white",
        "cat",
        "s",
        "don't",
        "tab",
    ]
    assert split_words("<3 > 2") == ["<3", ">", "2"]
    assert split_words("".join(FILTERED)) == split_words("") == split_words(" \n") == []


@pytest.mark.parametrize("character", FILTERED)
def test_every_filtered_character_parts_words(character: str) -> None:
    assert split_words(f"{character}a{character}b{character}{character}c") == ["a", "b", "c"]


def test_the_commonest_words_come_first_and_ties_in_order_of_appearance() -> None:
    captions = ["b a c", "a d b", "a e", "f f"]
    whole = Vocabulary.build(captions)
    assert whole.tokens == (*SPECIALS, "a", "b", "f", "c", "d", "e")
    for size in range(1, 8):
        assert Vocabulary.build(captions, size=size).tokens == whole.tokens[: 4 + size]
    assert Vocabulary.build(captions, min_count=2).tokens == (*SPECIALS, "a", "b", "f")
    assert Vocabulary.build(captions, min_count=3, size=5).tokens == (*SPECIALS, "a")
    assert Vocabulary.build(iter(captions)) == whole


def test_specials_in_captions_do_not_become_words() -> None:
    vocabulary = Vocabulary.build(["<start> a <end>", "<start> b <end> <unk> <pad>"])
    assert vocabulary.tokens == (*SPECIALS, "a", "b")


def test_building_refuses_nonsense() -> None:
    with pytest.raises(OptionError, match="at least 3 times"):
        Vocabulary.build(["a b", "a"], min_count=3)
    with pytest.raises(OptionError, match="at least 1 times"):
        Vocabulary.build([])
    with pytest.raises(OptionError, match="size must be at least 1, got 0"):
        Vocabulary.build(["a"], size=0)


def test_a_vocabulary_starts_with_the_specials_and_has_no_word_twice() -> None:
    assert SPECIALS == ("<pad>", "<start>", "<end>", "<unk>")
    assert [SPECIALS[number] for number in (PAD, START, END, UNK)] == list(SPECIALS)
    with pytest.raises(OptionError, match="starts with"):
        Vocabulary(("a", "b"))
    with pytest.raises(OptionError, match="every word once"):
        Vocabulary((*SPECIALS, "a", "a"))


def test_encode_and_decode() -> None:
    vocabulary = Vocabulary.build(["a dog runs"])
    assert len(vocabulary) == 7
    assert "dog" in vocabulary
    assert "cat" not in vocabulary
    numbers = vocabulary.encode("A dog, a CAT!")
    assert numbers == [START, 4, 5, 4, UNK, END]
    assert vocabulary.decode(numbers) == ["a", "dog", "a", "<unk>"]
    assert vocabulary.decode([START, 4, PAD, END, 5, 6]) == ["a"]
    assert vocabulary.decode([4, 5]) == ["a", "dog"]
    assert vocabulary.decode([]) == []
    assert vocabulary.text(["a", "dog"]) == "a dog"


@pytest.mark.parametrize("special", SPECIALS)
def test_a_caption_cannot_spell_a_special(special: str) -> None:
    vocabulary = Vocabulary.build(["a dog"])
    assert vocabulary.encode(f"a {special} {special.upper()} dog") == [START, 4, UNK, UNK, 5, END]


def test_save_and_load(tmp_path: Path) -> None:
    vocabulary = Vocabulary.build(CAPTIONS)
    vocabulary.save(tmp_path / "tokenizer.json")
    assert Vocabulary.load(tmp_path / "tokenizer.json") == vocabulary
    assert "犬" in (tmp_path / "tokenizer.json").read_text("utf-8")


# The library `tokenizers` as oracle.


def their_tokenizer(vocabulary: Vocabulary, folder: Path) -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary.save(folder / "tokenizer.json")
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


TRICKY = (
    *CAPTIONS,
    "",
    " ",
    "unknown words only",
    "a <start> dog <end> <pad> <unk>",
    "<START>,<End>!",
    "a<end>dog <<start>> '<end>' <end>'s",
    "\u3000a\xa0dog\u2003runs\x1ca\x1fdog\x85cat\u2028mat",
    "zero\u200bwidth joiner\u200d",
    "ΣΑΣ ΣΟΦΟΣ οδοσ ΟΔΟΣ.",
    "İSTANBUL STRASSE straße ﬃ Ǆ",
    "e\u0301 é É E\u0301",
    "##a # a_b a-b --",
    "🐕 a🐕dog",
    "\0 a\0dog",
)


@pytest.mark.parametrize("caption", TRICKY)
def test_the_tokenizers_library_gives_the_same_numbers(caption: str, tmp_path: Path) -> None:
    vocabulary = Vocabulary.build(CAPTIONS)
    assert their_tokenizer(vocabulary, tmp_path).encode(caption).ids == vocabulary.encode(caption)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vocabulary, Any]:
    vocabulary = Vocabulary.build([*CAPTIONS, "σ ß é i̇ ꙁ ა"])
    return vocabulary, their_tokenizer(vocabulary, tmp_path_factory.mktemp("vocabulary"))


PIECES = st.one_of(
    st.sampled_from(["a", "dog", "don't", " ", "<start>", "<END>", "<", ">", "Σ", "\x1e", "\n", "é", "_"]),
    st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=4),
)


@given(st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=300, deadline=None)
def test_the_tokenizers_library_agrees_on_any_text(both: tuple[Vocabulary, Any], caption: str) -> None:
    vocabulary, theirs = both
    assert theirs.encode(caption).ids == vocabulary.encode(caption)


def test_the_tokenizers_library_decodes_too(tmp_path: Path) -> None:
    vocabulary = Vocabulary.build(CAPTIONS)
    theirs = their_tokenizer(vocabulary, tmp_path)
    for caption in (*CAPTIONS, "", "unknown words"):
        numbers = vocabulary.encode(caption)
        wanted = vocabulary.text(vocabulary.decode(numbers))
        assert theirs.decode(numbers) == wanted
        assert theirs.decode([*numbers, PAD, PAD]) == wanted
        assert theirs.decode(numbers[1:-1]) == wanted
    assert theirs.get_vocab_size() == len(vocabulary)
    assert [theirs.token_to_id(token) for token in SPECIALS] == [PAD, START, END, UNK]


# Files that are none.


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"model": []}',
        '{"model": {"vocab": ["a"]}}',
        json.dumps({"model": {"vocab": dict.fromkeys(SPECIALS)}}),
    ],
)
def test_loading_refuses_what_is_no_tokenizer(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ModelError, match="is not a word-level tokenizer") as caught:
        Vocabulary.load(path)
    assert caught.value.path == str(path)


def test_loading_names_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ModelError, match=r"tokenizer\.json: .*No such file"):
        Vocabulary.load(path)
    numbers = {token: number for number, token in enumerate((*SPECIALS, "a", "b"))}
    for wrong in (7, 4, "5"):
        path.write_text(json.dumps({"model": {"vocab": numbers | {"b": wrong}}}))
        with pytest.raises(ModelError, match="tokenizer"):
            Vocabulary.load(path)
    path.write_text(json.dumps({"model": {"vocab": numbers | {"b": 7}}}))
    with pytest.raises(ModelError, match="numbers have gaps"):
        Vocabulary.load(path)
    path.write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}}))
    with pytest.raises(ModelError, match="starts with"):
        Vocabulary.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="is not a word-level tokenizer"):
        Vocabulary.load(path)
