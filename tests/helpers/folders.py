"""Small folders of files."""

from pathlib import Path


def write_files(root: Path, files: dict[str, bytes | str]) -> Path:
    """Write files by their names in `root`, which may have folders; return `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root
