"""Captions of one value: a text, a list of texts, or a list that JSON or Python has written into a text."""

import ast
import io
import json
import tokenize
from typing import Any

_MOST = 100_000  # characters; a longer text is not parsed as a list


def captions_in(value: object) -> list[Any]:
    """The captions that a value holds, most often one.

    Args:
        value: a text, None, or a list; a text such as `["a dog", "two dogs"]`, as pandas writes lists into tables, is
            one, too.

    Returns:
        Its captions. What is no text among them stays as it is, for the caller to report.

    Raises:
        ValueError: the text begins as a list of texts, and is none.
    """
    if isinstance(value, list | tuple):
        return list(value) or [None]
    if not isinstance(value, str):
        return [value]
    text = value.strip()
    if text == "[]":
        return [None]
    if len(text) > _MOST or not text.endswith("]") or not text.startswith(('["', "['")):
        return [value]
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = _python_list(text)
    return parsed if isinstance(parsed, list) else [value]


def _python_list(text: str) -> list[str]:
    """The texts of a Python list.

    Two texts without a comma between them, as numpy writes arrays, would be joined by Python: they are refused.
    """
    refusal = ValueError("begins as a list of captions, and is none that JSON or Python reads")
    try:
        tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.string.strip()]
        inside = tokens[1:-1]
        texts, commas = inside[::2], inside[1::2]
        if any(token.type != tokenize.STRING for token in texts) or any(token.string != "," for token in commas):
            raise refusal
        parsed = [ast.literal_eval(token.string) for token in texts]
    except (tokenize.TokenError, SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise refusal from error
    if not all(isinstance(caption, str) for caption in parsed):
        raise refusal
    return parsed
