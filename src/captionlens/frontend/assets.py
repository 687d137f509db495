"""The files that the HTML report and both pages share, as text, and what stands alike in the HTML of all three.

Modules import one another as `./NAME`: the pages offer them side by side, and the report, which is one file, gets them
as one script from `bundle`.
"""

import re
from importlib import resources

from captionlens.drawing import heatmap

MODULES = ("elements.mjs", "heatmap.mjs", "parts.mjs", "photographs.mjs", "sentence.mjs", "words.mjs")
STYLES = ("style.css", "photographs.css")  # the report has only the first

UNSURE = "not sure: this captioner may not know this kind of photograph ({share}% sure)"
UNSEEN = "did not depend on the picture"

_KEY = (
    '<span data-text="point">Point at a word, tap it, or walk with the arrow keys.</span>\n'
    '<span class="scale"><span data-text="little">looked little</span> <canvas aria-hidden="true"></canvas> '
    '<span data-text="most">looked most</span></span>\n'
    '<span data-text="thick">The thicker the line under a word, the surer the network.</span>'
)
_EXAMINED_KEY = (
    '<span><span class="unseen" data-text="dotted">Grey and dotted</span>: '
    f'<span data-text="unseen">{UNSEEN}</span>.</span>'
)


def read(name: str) -> str:
    """The text of one of MODULES or STYLES."""
    return resources.files("captionlens.frontend").joinpath(name).read_text("utf-8")


def drawing_settings() -> str:
    """The attributes of <body> from which heatmap.mjs takes the constants of `drawing.heatmap`."""
    palette = "".join(f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in heatmap.INFERNO)
    faintest, strongest = heatmap.HEAT_OPACITY
    return f'data-palette="{palette}" data-floor="{heatmap.FLOOR}" data-opacity="{faintest} {strongest}"'


def key(*, examined: bool) -> str:
    """The elements that say what colours and lines mean; with `examined` also what grey and dotted words are.

    Texts that the page of `captionlens serve` translates carry `data-text`.
    """
    return f"{_KEY}\n{_EXAMINED_KEY}" if examined else _KEY


def fill(page: str) -> str:
    """A page's HTML with `{drawing}`, `{key}` and `{examined key}` replaced."""
    parts = {"drawing": drawing_settings(), "key": key(examined=False), "examined key": key(examined=True)}
    for name, part in parts.items():
        page = page.replace(f"{{{name}}}", part)
    return page


def bundle(*modules: str) -> str:
    """One module script of the texts of several, each after those that it imports from.

    Import statements and the word `export` are left out, so that all share one scope: names at the top of one must not
    be those of another, and imports must not rename.
    """
    return "\n".join(re.sub(r"^(import\b[^;]*;\n|export )", "", text, flags=re.MULTILINE) for text in modules)
