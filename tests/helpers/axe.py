"""axe-core, which looks on a page for what keeps people with disabilities out."""

import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from helpers.paths import REPOSITORY

AXE = "https://registry.npmjs.org/axe-core/-/axe-core-4.14.1.tgz"  # MPL-2.0; used here, not part of the product
AXE_SHA256 = "sha256:e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    from captionlens.errors import DownloadError
    from captionlens.fetch import check_sum, fetch

    archive = REPOSITORY / "build" / AXE.rpartition("/")[2]
    archive.parent.mkdir(exist_ok=True)
    try:
        if not (archive.exists() and check_sum(archive, AXE_SHA256)):
            archive.unlink(missing_ok=True)
            fetch(AXE, archive, checksum=AXE_SHA256, progress=False)
    except DownloadError as error:
        pytest.skip(f"axe-core cannot be downloaded: {error}")
    with tarfile.open(archive) as packed:
        member = packed.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.fixture
def violations(axe: str) -> Callable[[Any], list[str]]:
    """Look at a page of Playwright's for violations of RULES."""

    def look(page: Any) -> list[str]:
        page.evaluate(axe)
        found = page.evaluate("(rules) => axe.run(document, { runOnly: rules })", RULES)
        assert len(found["passes"]) > 10
        return [f"{broken['id']}: {node['html']}" for broken in found["violations"] for node in broken["nodes"]]

    return look
