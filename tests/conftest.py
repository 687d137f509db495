"""Fixtures that several tests share."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import REPOSITORY
from helpers.shared import made_once

pytest_plugins = ["helpers.axe", "helpers.inception"]


# The camera is a made one: a green picture that moves.
_CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]

# Who needs the real data sets, the service, a browser or the whole of InceptionV3 takes long.
SLOW_FIXTURES = {"shared_data", "server", "browser", "keras_file", "keras_network"}

# Folders with the longest test files, the longest first.
LONG = ("whole_way", "project", "server", "training", "export")

# Test processes side by side share the cores, and so do the commands they start.
if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))


def pytest_addoption(parser: pytest.Parser) -> None:
    # Processes side by side take the same one from the environment.
    seed = os.environ.setdefault("PYTEST_ORDER_SEED", str(random.randrange(10**6)))
    parser.addoption("--order-seed", type=int, default=int(seed), help="Of the order of the tests.")


def pytest_report_header(config: pytest.Config) -> str:
    return f"order of the tests: --order-seed {config.getoption('order_seed')}"


@pytest.hookimpl(tryfirst=True)  # afterwards pytest puts tests together that share a parameter of a costly fixture
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Files in random order, and the tests of each; no test may need another before it.

    The rooms of the longest files come first, so that none is left for one process while the others have nothing to do.
    """
    for item in items:
        if SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    shuffled = random.Random(config.getoption("order_seed"))
    files = list(dict.fromkeys(item.path for item in items))
    shuffled.shuffle(files)
    files.sort(key=lambda path: LONG.index(path.parent.name) if path.parent.name in LONG else len(LONG))
    shuffled.shuffle(items)
    items.sort(key=lambda item: files.index(item.path))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, which their licences keep out of the repository."""
    folder = Path(os.environ.get("CAPTIONLENS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the real data sets in {folder} (or where CAPTIONLENS_DATA points)")
    return folder


@pytest.fixture(scope="session")
def small_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set of 120 pictures: 96 to train on, 12 to validate, 12 to test. Not to be changed."""
    from captionlens.datasets.scenes import draw_scenes

    return made_once("small_scenes", lambda folder: draw_scenes(folder, images=120, seed=5), tmp_path_factory)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, tiny and whole, of a network that was never trained; tests that change it take a copy."""
    pytest.importorskip("torch", reason="exporting a model needs torch")
    from helpers.small_models import write_tiny_model

    return made_once("small_model", write_tiny_model, tmp_path_factory)


@pytest.fixture
def model(small_model: Path, tmp_path: Path) -> Path:
    """A copy of the small model, to spoil."""
    return Path(shutil.copytree(small_model, tmp_path / "model"))


@pytest.fixture(scope="module")
def captioner() -> Any:
    """The captioner that comes along."""
    import captionlens

    return captionlens.load()


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """`captionlens serve` with its defaults."""
    from helpers.server import start_server

    with start_server() as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, without a window, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium (Debian's package of that name)")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium, args=_CHROMIUM)
        yield started
        started.close()
