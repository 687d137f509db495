"""`captionlens train coco2014` does the tutorial's whole job from nothing: here from a server with a small COCO."""

import json
import os
from pathlib import Path

import pytest

from helpers.cli import run_process
from helpers.download import make_small_coco2014, serve

pytestmark = pytest.mark.slow


def test_the_tutorials_job_from_nothing(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    make_small_coco2014(mirror, images=24)
    with serve(mirror) as url:
        environment = {
            **os.environ,
            "CAPTIONLENS_MIRROR": str(url),
            "CAPTIONLENS_DATA_HOME": str(tmp_path / "home"),
        }
        arguments = [
            *("train", "coco2014", "-o", tmp_path / "run", "--preset", "tutorial"),
            *("--max-captions", "30", "--seed", "1", "--set", "epochs=1", "--backbone", "efficientnet_lite0"),
        ]
        run_process(*arguments, env=environment)
        requests = len(url.requests)
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["captions"] == 30
        assert summary["history"][0]["loss"] > 0
        # What is there is not fetched again.
        run_process(*arguments, env=environment)
        assert len(url.requests) == requests
    assert (tmp_path / "run" / "model" / "manifest.json").exists()
