"""Entries of the HTML report: what they keep of a caption."""

import base64

import numpy as np
import pytest

from captionlens.errors import CaptionlensError
from captionlens.outputs.report_entries import compact, failed, shown
from captionlens.runtime.faithfulness import Faithfulness
from helpers.report import made_caption


def test_maps_travel_as_bytes() -> None:
    caption = made_caption(words=("a", "dog", "runs"))
    entry = shown(caption, "1.jpg", (480, 360))
    assert (entry["image"], entry["width"], entry["height"]) == ("1.jpg", 480, 360)
    assert tuple(entry["grid"]) == (3, 4)
    cells = np.frombuffer(base64.b64decode(entry["maps"]), np.uint8).reshape(3, 3, 4)
    decoded = cells / 255 * np.array(entry["peaks"])[:, None, None] / 12
    assert np.abs(decoded - caption.attention).max() < 0.9 / 255
    assert entry["certainty"] == [0.99, 0.52, 0.05]


def test_of_two_cells_almost_alike_the_stronger_is_the_strongest() -> None:
    attention = np.full((1, 3, 4), 0.01, np.float32)
    attention[0, 0, 0], attention[0, 2, 3] = 0.4499, 0.4501
    entry = shown(made_caption(words=("a",), attention=attention), "", (1, 1))
    assert base64.b64decode(entry["maps"])[0] == 254
    assert base64.b64decode(entry["maps"])[11] == 255


def test_examined_words() -> None:
    examined = [Faithfulness(0.99, 0.97, 0.98), Faithfulness(0.05, 0.01, 0.04)]
    entry = shown(made_caption(faithfulness=examined), "", (1, 1))
    assert entry["examined"] == [[0.99, 0.97, 0.98, False], [0.05, 0.01, 0.04, True]]
    assert "examined" not in shown(made_caption(), "", (1, 1))


@pytest.mark.parametrize(
    ("attributes", "keys"),
    [
        ({}, set()),
        ({"confidence": 0.5}, {"confidence"}),
        ({"confidence": 0.2, "unsure": True}, {"confidence", "doubt", "hedged"}),
        ({"confidence": 0.2, "unsure": True, "withheld": True}, {"confidence", "doubt", "withheld"}),
        ({"keywords": ("dog",)}, {"keywords"}),
        ({"keywords": ()}, set()),
        ({"path": None}, {"nameless"}),
        ({"path": "-"}, {"nameless"}),
        ({"path": "caf\udce9.jpg"}, {"nameless"}),
    ],
)
def test_only_what_there_is(attributes: dict[str, object], keys: set[str]) -> None:
    entry = shown(made_caption(**attributes), "", (1, 1))  # type: ignore[arg-type]
    always = {"image", "width", "height", "text", "words", "certainty", "grid", "maps", "peaks"}
    assert set(entry) == always | keys


def test_doubt_says_how_sure() -> None:
    entry = shown(made_caption(confidence=0.234, unsure=True), "", (1, 1))
    assert "23% sure" in entry["doubt"]
    assert entry["hedged"] == "not sure: a dog"


def test_json_that_cannot_leave_its_element() -> None:
    assert compact({"a": "</script><!--\udce9é"}) == '{"a":"\\u003c/script>\\u003c!--?é"}'
    assert compact(failed(CaptionlensError("<b>"))) == '{"error":"\\u003cb>"}'
