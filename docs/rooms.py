"""The tables of files in docs/architecture.md, made of the modules' first docstring lines.

python docs/rooms.py     # writes them anew
"""

import ast
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "src" / "captionlens"
DOCUMENT = HERE / "architecture.md"
BEGIN, END = "<!-- rooms: made by docs/rooms.py -->", "<!-- end of rooms -->"


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return docstring.partition("\n")[0].rstrip(".").replace("|", "\\|")


def tables() -> str:
    """A table for every room, those at the top of the house first, and one for the files beside the rooms."""
    rooms = [path for path in layers() if (PACKAGE / path).is_dir()]
    parts = [_table(f"{room}/", PACKAGE / room) for room in rooms]
    return "\n\n".join([*parts, _table("beside the rooms", PACKAGE, deep=False)])


def layers() -> list[str]:
    """The rooms and files of the package, from the top of the house down, as pyproject.toml has them."""
    import tomllib

    contracts = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (house,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [layer.removeprefix("captionlens.") for layer in house]


def _table(title: str, folder: Path, *, deep: bool = True) -> str:
    files = sorted(folder.rglob("*.py") if deep else folder.glob("*.py"))
    rows = [
        f"| `{path.relative_to(folder).as_posix()}` | {first_line(path)} |"
        for path in files
        if not path.name.startswith("_")
    ]
    about = first_line(folder / "__init__.py") if deep else ""
    heading = f"**{title}** {about}".rstrip()
    return "\n".join([heading, "", "| file | contents |", "| --- | --- |", *rows])


def renewed(document: str) -> str:
    """The document with its tables as they must be."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text("utf-8")), "utf-8")
