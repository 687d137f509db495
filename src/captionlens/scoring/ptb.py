"""Caption tokenisation as the official scorers do it, without Java.

The COCO evaluation tokenises with Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) and
then drops a list of punctuation tokens. That tokeniser is a longest-match lexer: at every place all rules
are tried, the rule that reaches furthest (what it looks ahead to included) wins, and of equals the one that
stands first. `lex` works in the same way over the rules below; `tokenize` takes a short cut for ordinary
words.

Two things differ from the lexer's own output, and neither survives the dropping of punctuation: a full stop
that ends both an abbreviation and a sentence is not doubled, and quotes that stand alone are not told
apart.
"""

import re
from functools import cache, lru_cache

from captionlens.scoring.ptb_rules import NEWLINE, Rule, rules

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""What pycocoevalcap drops. Brackets survive: they arrive in lower case (`-lrb-`), the list has capitals."""

# Chunks between spaces whose tokens depend on nothing around them. A hyphen may only stand inside, as a
# leading one can begin a number or a face; an initial with its full stop is read by the word that follows;
# digits, brackets and symbols are the lexer's.
_SELF_CONTAINED = re.compile(r"[A-Za-z']+(?:-[A-Za-z']+)*,?|[A-Za-z]{2,}(?:-[A-Za-z]{2,})*\.|[.,]")
_REMEMBERED = 50_000  # chunks: more than the different words of a large data set


def tokenize(caption: str) -> list[str]:
    """The tokens that pycocoevalcap's PTBTokenizer leaves of a caption: lower case, without punctuation.

    Line breaks inside the caption count as spaces. A token can hold a no-break space (`1 1/2`), as it does
    there.
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
    """`tokenize` by the rules alone."""
    text = re.sub(NEWLINE, " ", caption)
    end = len(text)
    # The official script writes one caption a line, and a last "K." is read by how the next line begins;
    # nearly all captions begin with the article, in capitals where this one is.
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
    """The token at `start`, empty where the characters there make none, and where the next one starts."""
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
