"""Fixtures that several tests share."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["fixtures_inception"]

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, which their licences keep out of the repository."""
    folder = Path(os.environ.get("CAPTIONLENS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the real data sets in {folder} (or where CAPTIONLENS_DATA points)")
    return folder
