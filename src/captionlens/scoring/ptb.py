"""Tokenisation of captions for scoring, equivalent to the official PTBTokenizer but without Java.

The COCO evaluation tokenises with Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) and then drops a
list of punctuation tokens. That tokeniser is a longest-match lexer. At every position all rules are tried; the rule
with the longest match (lookahead included) wins, and of equal ones the first. `lex` works in the same way over the
rules of `ptb_rules`; `tokenize` takes a short cut for ordinary words.

Two differences from the lexer's own output disappear with the punctuation: a full stop that ends both an abbreviation
and a sentence is not doubled, and opening and closing quotes that stand alone are not distinguished.
"""

import re
from functools import cache, lru_cache

from captionlens.scoring.ptb_rules import NEWLINE, Rule, rules

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""Tokens that pycocoevalcap drops. Brackets survive: they arrive in lower case (`-lrb-`), the list has capitals."""

# Chunks between spaces whose tokens do not depend on their context. A hyphen is allowed inside only, as a leading one
# can begin a number or an emoticon; an initial with its full stop depends on the next word; digits, brackets and
# symbols are left to the lexer.
_SELF_CONTAINED = re.compile(r"[A-Za-z']+(?:-[A-Za-z']+)*,?|[A-Za-z]{2,}(?:-[A-Za-z]{2,})*\.|[.,]")
_REMEMBERED = 50_000  # chunks: more than the distinct words of a large data set


def tokenize(caption: str) -> list[str]:
    """Tokenise a caption as pycocoevalcap's PTBTokenizer does: lower case, without punctuation.

    Line breaks inside the caption count as spaces. A token can contain a no-break space (`1 1/2`), as with the
    original.
    """
    chunks = [chunk for chunk in caption.replace("\n", " ").split(" ") if chunk]
    tokens: list[str] = []
    for chunk in chunks:
        known = _chunk_tokens(chunk)
        if known is None:
            return lex(caption)
        tokens.extend(known)
    return tokens


@lru_cache(maxsize=_REMEMBERED)
def _chunk_tokens(chunk: str) -> tuple[str, ...] | None:
    return tuple(lex(chunk)) if _SELF_CONTAINED.fullmatch(chunk) else None


def lex(caption: str) -> list[str]:
    """Tokenise as `tokenize` does, by the rules alone."""
    text = re.sub(NEWLINE, " ", caption)
    end = len(text)
    # The official script writes one caption per line, and the reading of a final "K." depends on the beginning of the
    # next line. Nearly all captions begin with the article; its case follows this caption's.
    text += "\nA " if text.lstrip()[:1].isupper() else "\na "
    tokens: list[str] = []
    position = 0
    while position < end:
        token, position = _next_token(text, position)
        token = token.lower()
        if token and token not in PUNCTUATION:
            tokens.append(token)
    return tokens


def _next_token(text: str, start: int) -> tuple[str, int]:
    """Token at `start`, empty if the characters there are dropped, and the start of the next one."""
    best: re.Match[str] | None = None
    chosen: Rule | None = None
    for rule, regex in _compiled_rules():
        match = regex.match(text, start)
        if match and (best is None or match.end() > best.end()):
            best, chosen = match, rule
    if best is None or chosen is None:
        return "", start + 1  # space, or a character that the lexer drops
    found = best[1][: chosen.keep]
    return chosen.action(found), start + len(found)


@cache
def _compiled_rules() -> tuple[tuple[Rule, re.Pattern[str]], ...]:
    return tuple((rule, re.compile(rule.regex)) for rule in rules())
