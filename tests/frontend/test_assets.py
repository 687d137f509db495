"""The front end's files: offered side by side, or as one script."""

import re
from importlib import resources

import pytest

from captionlens.drawing import heatmap
from captionlens.frontend import assets
from captionlens.frontend.assets import MODULES, STYLES, bundle


def folder(room: str, *below: str) -> dict[str, str]:
    """The text of every module and style sheet of a folder, by name."""
    entries = resources.files(f"captionlens.{room}").joinpath(*below).iterdir()
    return {entry.name: entry.read_text("utf-8") for entry in entries if entry.name.endswith((".mjs", ".css"))}


def imported(module: str) -> dict[str, list[str]]:
    """The names that a module imports, by the module they are of."""
    statements = re.findall(r'^import \{([^}]*)\} from "\./([\w.]+)";$', module, re.MULTILINE)
    assert len(statements) == module.count("\nimport ")
    return {name: [part.strip() for part in names.split(",") if part.strip()] for names, name in statements}


def test_every_file_is_named_and_every_import_is_there() -> None:
    shared = folder("frontend")
    assert sorted(shared) == sorted((*MODULES, *STYLES))
    for own in (folder("server", "page"), folder("outputs", "report_page")):
        assert not shared.keys() & own.keys()  # they are offered under one address
        there = shared | own
        for module in there.values():
            for name, parts in imported(module).items():
                for part in parts:
                    kind = r"^export (?:async )?(?:function|const|class)"
                    assert re.search(rf"{kind} {part.partition(' as ')[0]}\b", there[name], re.MULTILINE)


def test_one_script_of_modules() -> None:
    first = 'import { a } from "./a.mjs";\nimport {\n  b,\n  c,\n} from "./b.mjs";\n\nexport const d = "import";\n'
    second = "export class E {}\nexport async function f() {}\n  export_ = 1;\n"
    assert bundle(first, second) == ('\nconst d = "import";\n\nclass E {}\nasync function f() {}\n  export_ = 1;\n')


def test_the_settings_are_those_of_the_overlay() -> None:
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', assets.drawing_settings()))
    palette = bytes.fromhex(found["palette"])
    assert [tuple(palette[at : at + 3]) for at in range(0, len(palette), 3)] == list(heatmap.INFERNO)
    assert float(found["floor"]) == heatmap.FLOOR
    assert tuple(map(float, found["opacity"].split())) == heatmap.HEAT_OPACITY


@pytest.mark.parametrize(("page", "parts"), [("<body {drawing}>{key}", 1), ("{examined key}", 1), ("{other}", 0)])
def test_pages_are_filled(page: str, parts: int) -> None:
    filled = assets.fill(page)
    assert ("looked most" in filled) == bool(parts)
    assert ("Grey and dotted" in filled) == ("examined" in page)
    assert "{other}" in filled or "{" not in filled
