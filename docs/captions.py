"""docs/captions.md: what the captioner that comes along says of the example photographs.

python docs/captions.py     # captions them, and writes the page anew
"""

import re
from pathlib import Path

import captionlens
from captionlens import Caption

HERE = Path(__file__).resolve().parent
PHOTOGRAPHS = HERE.parent / "examples" / "photographs"
PAGE = HERE / "captions.md"


def shown() -> dict[str, str]:
    """What each photograph shows, by its file's name, as the README beside them says."""
    table = (PHOTOGRAPHS / "README.md").read_text("utf-8")
    return dict(re.findall(r"^\| `(.+?)` \| (.+?) \|", table, re.MULTILINE))


def page(captions: list[Caption], contents: dict[str, str]) -> str:
    """The page, of captions in the order of the photographs."""
    rows = []
    for caption in captions:
        name = Path(str(caption.path)).name
        photograph = f'<img src="../examples/photographs/{name}" width="200" alt="">'
        rows.append(f"| {photograph} | {caption.hedged} | {caption.confidence:.2f} | {contents[name]} |")
    return f"""# {len(rows)} captions

What `captionlens caption examples/photographs` says, with the captioner that comes along and its defaults. None of
these photographs was in its training, and none was left out because of its caption. The number is its
[confidence](captioning.md#confidence), the expected share of its words that are right; where it is low, the command
says by itself that it is not sure. Authors and licences: [examples/photographs](../examples/photographs/README.md).

| photograph | caption | confidence | what it shows |
| --- | --- | --- | --- |
{chr(10).join(rows)}

`python docs/captions.py` writes this page.
"""


if __name__ == "__main__":
    contents = shown()
    captions = list(captionlens.load().caption_many(sorted(PHOTOGRAPHS / name for name in contents)))
    PAGE.write_text(page(captions, contents), "utf-8")
