"""The tokeniser against golden values and against the Java program it stands in for."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from captionlens.scoring.ptb import lex, tokenize
from helpers import official_scorers


# What CoreNLP 3.4.1 gives for these with -preserveLines -lowerCase, less pycocoevalcap's punctuation.
@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A dog, a cat; and a bird.", "a dog a cat and a bird"),
        ("don't can't won't couldn't've", "do n't ca n't wo n't could n't 've"),
        ("he'll she's I'm they've DON'T", "he 'll she 's i 'm they 've do n't"),
        ("cannot gonna wanna 'tis 'twas dunno", "can not gon na wan na 't is 't was dunno"),
        ("the dog's toys and the dogs' bowls", "the dog 's toys and the dogs bowls"),
        ("o'clock O'Brien l'eau c'mon y'all ma'am", "o'clock o'brien l'eau c'mon y' all ma'am"),
        ("rock 'n' roll, ol' and 'em", "rock 'n' roll ol' and 'em"),
        ("a (yes) [no] {br} <tag>", "a -lrb- yes -rrb- -lsb- no -rsb- -lcb- br -rcb- <tag>"),
        ("\"good\" ``so'' ‘a’ “b” «c»", "good so a b c"),
        ("e.g. i.e. etc. a.m. mr. st. vs. no. x", "e.g. i.e. etc. a.m. mr. st. vs. no x"),
        ("no. 5 ca. 1900 fig. 3 approx. 5", "no. 5 ca. 1900 fig. 3 approx 5"),
        ("Wash. wash. Mass. mass.", "wash. wash mass. mass"),
        ("U.S.A. N.Y. Ph.D. a.b.c u.s.-based", "u.s.a. n.y. ph.d. a.b.c u.s.-based"),
        ("Some vitamin C. The end", "some vitamin c the end"),
        ("A sign reads K.", "a sign reads k"),
        ("a sign reads k.", "a sign reads k."),
        ("1/2 1 1/2 1-1/2 3:45 1,000 -5 12/25/2010", "1/2 1\u00a01/2 1-1/2 3:45 1,000 -5 12/25/2010"),
        ("(555) 555-1234 90's '90s 50% $5 #1", "-lrb-555-rrb-\u00a0555-1234 90 's '90s 50 % $ 5 # 1"),
        ("black/white and/or x-ray 2-door foo-", "black/white and/or x-ray 2-door foo"),
        ("... .. !!! ?! --- ----- a...b", "!!! ?! ----- a. b"),
        ("AT&T R&B q&a &amp; &lt; &nbsp; c++", "at&t r&b q & a & < c++"),
        (
            "www.a.com http://foo.com/bar?x=1 a@b.com @me #tag",
            "www.a.com http://foo.com/bar?x=1 a@b.com @me #tag",
        ),
        (":) :-( <3 ^_^", ":-rrb- :--lrb- < 3 ^_^"),
        ("café naïve 日本 ½ 20°C €5 £5", "café naïve 日本 1/2 20 ° c $ 5 # 5"),
        ("a–b — c", "a b c"),
        ("hello!world cat,5 5,cat", "hello!world cat ,5 5 cat"),
        ("a dog 🐶 runs", "a dog runs"),
        ("two\nlines\tand\u00a0gaps", "two lines and gaps"),
        (" . . . ", ""),
        ("", ""),
    ],
)
def test_golden(caption: str, tokens: str) -> None:
    assert tokenize(caption) == [token for token in tokens.split(" ") if token]


def coco_captions(shared_data: Path) -> list[str]:
    content = json.loads((shared_data / "coco/annotations/captions_val2017.json").read_text(encoding="utf-8"))
    return [entry["caption"] for entry in content["annotations"]]


def flickr_captions(shared_data: Path) -> list[str]:
    text = (shared_data / "flickr8k/Flickr8k_text/Flickr8k.token.txt").read_text(encoding="utf-8")
    return [line.split("\t", 1)[1] for line in text.splitlines() if "\t" in line]


def official(captions: list[str]) -> list[list[str]]:
    joined = official_scorers.tokenize(dict(enumerate([caption] for caption in captions)))
    return [[token for token in joined[number][0].split(" ") if token] for number in range(len(captions))]


@pytest.mark.parametrize("read", [coco_captions, flickr_captions])
def test_agrees_with_java_on_every_caption(read: Callable[[Path], list[str]], shared_data: Path) -> None:
    official_scorers.require_java()
    captions = read(shared_data)
    wrong = [
        (caption, ours, theirs)
        for caption, theirs in zip(captions, official(captions), strict=True)
        if (ours := tokenize(caption)) != theirs
    ]
    assert len(captions) >= 25_000
    assert wrong == []


PIECES = [
    *" .,;:!?'\"`-_/\\()[]{}&$#@%*+=~^|<>0123456789",
    *("--", "---", "...", ". . .", "''", "’", "“", "–", "é", "½", "°C", "…", "n't", "'s", "can't", "cannot"),
    *(
        "gonna",
        "'em",
        "'til",
        "o'clock",
        "y'all",
        "Mr.",
        "St.",
        "U.S.",
        "u.s.",
        "a.m.",
        "etc.",
        "e.g.",
        "No.",
    ),
    *("A.", "1/2", "1 1/2", "3:45", "12/25/2010", "1990's", "'90s", "2nd", "$1,000.50", '6"', "3-D", "x-ray"),
    *(
        "www.a.com",
        "http://a.b/c",
        "a@b.com",
        ":)",
        ":-(",
        "AT&T",
        "&amp;",
        "c++",
        "and/or",
        "(212) 555-1234",
    ),
]


def strange_captions(number: int) -> list[str]:
    """Caption-like strings with odd pieces put between, before, after and into words."""
    random_ = random.Random(7)
    words = [
        "a",
        "man",
        "in",
        "red",
        "and",
        "white",
        "shirts",
        "rides",
        "the",
        "two-wheeled",
        "bike",
        "down",
        "Main",
        "Street",
        "with",
        "his",
        "dogs",
    ]
    captions = []
    for _ in range(number):
        caption = random_.sample(words, random_.randint(3, 10))
        for _ in range(random_.randint(1, 4)):
            where, piece = random_.randrange(len(caption)), random_.choice(PIECES)
            word = caption[where]
            cut = random_.randint(0, len(word))
            caption[where] = random_.choice((f"{word} {piece}", piece + word, word[:cut] + piece + word[cut:]))
        captions.append("A " + " ".join(caption))
    return captions


@pytest.mark.slow
def test_agrees_with_java_on_strange_captions() -> None:
    official_scorers.require_java()
    captions = strange_captions(5000)
    # Every caption begins with "A", so that what the next line begins with is what `lex` takes for granted.
    wrong = [(c, o, t) for c, t in zip(captions, official(captions), strict=True) if (o := tokenize(c)) != t]
    assert wrong == []


def test_short_cut_changes_nothing() -> None:
    for caption in strange_captions(2000):
        assert tokenize(caption) == lex(caption)
