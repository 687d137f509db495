"""`captionlens extract`: which photographs it takes, and how its threads wait."""

import os
import re
from pathlib import Path

import pytest

from captionlens.datasets import read_dataset
from captionlens.features.store import FeatureStore, photograph_key
from helpers.cli import run_cli, run_process


@pytest.mark.slow
def test_what_training_asks_for_is_extracted_unless_all_is_wanted(small_scenes: Path, tmp_path: Path) -> None:
    command = ["extract", small_scenes, "-o", tmp_path / "store", "--backbone=efficientnet_lite0", "--mirrored"]
    data = read_dataset(small_scenes)

    done = run_cli(*command, "--validation-photographs=5")
    assert "not extracted, as train does not ask for them: 7 of val and 12 of test (--all takes all" in done.stderr
    assert "101 photographs extracted, 0 were there" in done.stderr
    assert "96 mirrored extracted, 0 were there" in done.stderr
    store = FeatureStore.open(tmp_path / "store")
    assert all(photograph_key(record) in store for record in (*data.split("train"), *data.split("val")[:5]))
    assert all(photograph_key(record, mirrored=True) in store for record in data.split("train"))
    assert len(store) == 101 + 96

    done = run_cli(*command)
    assert "ask for them: 12 of test (--all takes all" in done.stderr
    assert "7 photographs extracted, 101 were there" in done.stderr

    done = run_cli(*command, "--all")
    assert "not extracted" not in done.stderr
    assert "12 photographs extracted, 108 were there" in done.stderr
    assert "24 mirrored extracted, 96 were there" in done.stderr
    assert len(FeatureStore.open(tmp_path / "store")) == 240


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "policy", "spins"),
    [
        ({}, "PASSIVE", "0"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", None),
        ({"GOMP_SPINCOUNT": "123"}, None, "123"),
    ],
)
def test_threads_wait_asleep_unless_the_user_says_otherwise(
    own: dict[str, str], policy: str | None, spins: str | None, tmp_path: Path
) -> None:
    variables = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment = {**variables, "OMP_DISPLAY_ENV": "VERBOSE", **own}  # OpenMP then tells what it has read
    done = run_process("extract", tmp_path, "-o", tmp_path / "store", "--devices=tpu", code=2, env=environment)
    told = dict(re.findall(r"(OMP_WAIT_POLICY|GOMP_SPINCOUNT) *= *'(\w+)'", done.stderr))
    if not told:
        pytest.skip("this OpenMP tells nothing")
    assert policy in (None, told["OMP_WAIT_POLICY"])
    assert spins in (None, told["GOMP_SPINCOUNT"])
