"""Training that starts from another run's captioner, and self-critical runs, as commands."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
import yaml

from captionlens.errors import OptionError, RunError
from captionlens.network import CaptioningNetwork
from captionlens.training.config import make_config
from captionlens.training.run_folder import DataSettings, RunFolder, open_run, resume_run, start_run
from captionlens.training.starting import begin_from, load_starting_weights
from helpers.cli import COMMAND, SMALL_CAPTIONER, run_cli, run_process, wait_for

pytestmark = pytest.mark.slow

SELF_CRITICAL = [
    *("--preset=self-critical", "--set=epochs=3", "--set=beam=3", "--set=learning_rate=2e-3", "--set=samples=4"),
    *("--set=average_decay=0.9", "--set=starting_temperature=1", "--set=network.dropout=0.1"),
    "--set=batch_captions=20",  # five photographs, or one at an end
]


@pytest.fixture(scope="module")
def first(small_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner that knows a little."""
    run = tmp_path_factory.mktemp("runs") / "first"
    settings = ["--set=epochs=6", "--set=vocabulary_size=60", "--set=beam=3"]
    run_cli("train", small_scenes, "-o", run, *SMALL_CAPTIONER, *settings, "--no-export")
    return run


@pytest.fixture(scope="module")
def second(first: Path, small_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That captioner after self-critical training, which nobody disturbed."""
    run = tmp_path_factory.mktemp("runs") / "second"
    done = run_process("train", small_scenes, "-o", run, "--from", first, *SELF_CRITICAL)
    assert "features of 108 photographs, 0 of them new" in done.stderr
    return run


def test_self_critical_run_learns_and_tells_its_reward(first: Path, second: Path) -> None:
    history = json.loads((second / "summary.json").read_text())["history"]
    with (second / "history.csv").open() as file:
        assert [row.keys() for row in csv.DictReader(file)] == [{"epoch", "reward", "val_loss", "val_cider"}] * 3
    rewards = [row["reward"] for row in history]
    assert min(rewards[1:]) > 1.1 * rewards[0] > 0
    before = json.loads((first / "best.json").read_text())["val_cider"]
    assert max(row["val_cider"] for row in history) > 2 * before
    config = yaml.safe_load((second / "config.yaml").read_text())
    assert config["data"]["from_run"] == str(first)
    assert config["training"]["network"]["units"] == 64
    assert config["training"]["vocabulary_size"] == 60
    model = json.loads((second / "model" / "config.json").read_text())
    assert model["training_before"] == [open_run(first).config.to_dict()]
    card = (second / "model" / "README.md").read_text()
    assert "| setting | step 1 | step 2 |\n| --- | --- | --- |\n" in card
    assert "| objective | cross-entropy | self-critical |" in card
    assert (second / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    assert (second / "loss.png").stat().st_size > 0
    assert not (second / "features").exists()


def test_photographs_with_too_few_captions_are_learned_by_cross_entropy(
    first: Path, small_scenes: Path, tmp_path: Path
) -> None:
    changes = {"few": "--set=rewarded_captions=99", "none": "--set=objective=cross-entropy"}
    for name, change in changes.items():
        settings = [*SELF_CRITICAL, "--set=epochs=1", change, "--no-export"]
        run_cli("train", small_scenes, "-o", tmp_path / name, "--from", first, *settings)
    few, none = (safetensors.numpy.load_file(tmp_path / name / "best.safetensors") for name in changes)
    for name in few:
        np.testing.assert_array_equal(few[name], none[name], err_msg=name)
    assert (tmp_path / "few" / "history.csv").read_text() == (tmp_path / "none" / "history.csv").read_text()


def test_nothing_learned_the_captioner_is_the_one_it_started_from(
    first: Path, small_scenes: Path, tmp_path: Path
) -> None:
    settings = ["--preset=tutorial", "--set=epochs=1", "--set=learning_rate=1e-12", "--set=network.dropout=0.3"]
    settings += ["--set=beam=3", "--set=length_penalty=0.7", "--no-export"]
    run_cli("train", small_scenes, "-o", tmp_path / "run", "--from", first, *settings)
    ours, theirs = (safetensors.numpy.load_file(run / "best.safetensors") for run in (tmp_path / "run", first))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-8, err_msg=name)
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["val_cider"] == json.loads((first / "best.json").read_text())["val_cider"]


def test_exported_weights_are_the_average_of_runs(first: Path, second: Path, tmp_path: Path) -> None:
    run_cli(
        "export", second, "-o", tmp_path / "model", "--average", first, "--shares", "3,1", "--length-penalty", "0.4"
    )
    exported = safetensors.numpy.load_file(tmp_path / "model" / "model.safetensors")
    one, other = (safetensors.numpy.load_file(run / "best.safetensors") for run in (second, first))
    for name in one:
        mean = 0.75 * one[name] + 0.25 * other[name]
        np.testing.assert_allclose(exported[f"network.{name}"], mean, rtol=1e-3, atol=1e-4, err_msg=name)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["decoding"]["length_penalty"] == 0.4
    assert config["averaged"] == [{"run": "second", "share": 0.75}, {"run": "first", "share": 0.25}]
    assert "0.75 of `second` and 0.25 of `first`" in (tmp_path / "model" / "README.md").read_text().replace("\n", " ")
    assert "averaged" not in json.loads((second / "model" / "config.json").read_text())


def test_logits_are_divided_and_scores_of_several_reports_told(first: Path, tmp_path: Path) -> None:
    reports = [tmp_path / "dogs.json", tmp_path / "cats.json"]
    decoding = {"beam": 3, "length_penalty": 1.0}
    for path in reports:
        report = {"dataset": path.stem, "split": "val", "photographs": 9, "decoding": decoding}
        path.write_text(json.dumps(report | {"scores": {"CIDEr-D": 0.5}, "intervals": {}}))
    options = [part for path in reports for part in ("--report", path)]
    run_cli("export", first, "-o", tmp_path / "model", "--temperature", "1.5", *options)
    exported = safetensors.numpy.load_file(tmp_path / "model" / "model.safetensors")
    kept = safetensors.numpy.load_file(first / "best.safetensors")
    for name in kept:
        wanted = kept[name] / 1.5 if name.startswith("output_words.") else kept[name]
        np.testing.assert_allclose(exported[f"network.{name}"], wanted, rtol=1e-3, atol=1e-4, err_msg=name)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["temperature"] == 1.5
    card = (tmp_path / "model" / "README.md").read_text()
    assert "logits are divided by 1.5" in card
    assert "9 photographs of dogs" in card
    assert "9 photographs of cats" in card
    again = run_cli("export", tmp_path / "model", "-o", tmp_path / "again", "--temperature", "2", code=2)
    assert "--temperature" in again.stderr


def test_what_cannot_be_averaged_is_named(first: Path, second: Path, small_scenes: Path, tmp_path: Path) -> None:
    other, none = tmp_path / "other", tmp_path / "none"
    settings = [*SMALL_CAPTIONER, "--set=epochs=1", "--set=vocabulary_size=9", "--no-export"]
    run_cli("train", small_scenes, "-o", other, *settings, "--features", first / "features")
    for options, code, message in [
        (("--average", other), 1, f"{other}: cannot be averaged with {second}: it has other words"),
        (("--average", none), 1, f"{none}: is not a run folder"),
        (("--average", first, "--shares", "1"), 2, "2 runs are averaged, so 2 shares are needed, got 1"),
        (("--average", first, "--shares", "1,0"), 2, "shares must be above 0, got 1, 0"),
        (("--average", first, "--shares", "1;0"), 2, "want numbers with commas between them"),
        (("--length-penalty", "nan"), 2, "length_penalty must be a finite number, got nan"),
        (("--shares", "1,1"), 2, "name them with --average"),
        (("--temperature", "0"), 2, "temperature must be a number above 0, got 0"),
    ]:
        done = run_cli("export", second, "-o", tmp_path / "model", *options, code=code)
        assert message in done.stderr, options
    assert not (tmp_path / "model").exists()


def test_model_tells_all_data_sets_of_its_training(first: Path, small_scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(small_scenes, tmp_path / "others")
    settings = [*SELF_CRITICAL, "--set=epochs=1"]
    run_cli("train", tmp_path / "others", "-o", tmp_path / "run", "--from", first, *settings)
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["trained_on"] == f"{small_scenes.name}, others"


def test_killed_self_critical_run_goes_on_and_ends_with_the_same_weights(
    first: Path, second: Path, small_scenes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    arguments = ["train", str(small_scenes), "-o", str(run), "--from", str(first), *SELF_CRITICAL, "--no-export"]
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.DEVNULL)
    wait_for(run / "last.ckpt", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run / "summary.json").exists()
    assert "going on from" in run_process(*arguments).stderr
    assert (run / "history.csv").read_text() == (second / "history.csv").read_text()
    ours, theirs = (safetensors.numpy.load_file(folder / "best.safetensors") for folder in (run, second))
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_two_processes_train_on_the_whole_batch(first: Path, second: Path, small_scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "two"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    arguments = ["captionlens", "train", str(small_scenes), "-o", str(run), "--from", str(first), *SELF_CRITICAL]
    arguments += ["--no-export"]
    done = subprocess.run([*torchrun, *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    history = json.loads((run / "summary.json").read_text())["history"]
    # Each process draws its own captions, of the same captioner.
    expected = json.loads((second / "summary.json").read_text())["history"]
    assert history[0]["reward"] == pytest.approx(expected[0]["reward"], rel=0.25)
    assert history[-1]["reward"] > history[0]["reward"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network.units": 32}, r"network\.units is 64 in .*which this run starts from, got 32"),
        ({"network": {"deep_output": False}}, r"network\.deep_output is True"),
        ({"vocabulary_size": 5000}, "vocabulary_size is 60"),
        ({"min_count": 2}, "min_count is 1"),
        ({"image_size": 320}, "image_size is None"),
        ({"backbone": "inception_v3"}, "backbone is 'efficientnet_lite0'"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], message: str, first: Path) -> None:
    with pytest.raises(OptionError, match=message):
        begin_from(open_run(first), DataSettings(("x",)), "self-critical", changes)
    same = {"network.units": 64, "vocabulary_size": 60, "network.dropout": 0.1, "learning_rate": 1.0}
    data, config = begin_from(open_run(first), DataSettings(("x",)), "self-critical", same)
    assert (config.network["dropout"], config.network["units"], config.learning_rate) == (0.1, 64, 1.0)
    assert (data.from_run, data.features) == (str(first), None)  # another data set has features of its own
    with pytest.raises(OptionError, match="the backbone's weights are the usual ones"):
        begin_from(open_run(first), DataSettings(("x",), backbone_weights="other.h5"), "base", {})


def test_words_start_as_likely_as_the_temperature_makes_them(first: Path) -> None:
    def kept(temperature: float) -> tuple[np.ndarray, np.ndarray]:
        network = CaptioningNetwork(
            open_run(first).config.network_config(vocabulary=31, rows=7, columns=7, channels=1280)
        )
        load_starting_weights(network, first, temperature)
        features = torch.rand(2, 49, 1280, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            teacher = network.eval().teach(features, torch.tensor([[[1, 5, 6, 2]], [[1, 7, 8, 2]]]))
            return teacher.logits.numpy(), teacher.attention.numpy()

    (cold, looked), (warm, also_looked) = kept(0.5), kept(1.0)
    assert np.ptp(warm) > 1
    np.testing.assert_allclose(cold, 2 * warm, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(looked, also_looked)


def test_a_run_without_weights_is_no_start(first: Path, tmp_path: Path) -> None:
    start_run(tmp_path / "young", DataSettings(("x",)), make_config("base"))
    with pytest.raises(RunError, match="no epoch was trained to its end"):
        begin_from(open_run(tmp_path / "young"), DataSettings(("x",)), "base", {})
    network = CaptioningNetwork(open_run(first).config.network_config(vocabulary=9, rows=7, columns=7, channels=5))
    with pytest.raises(RunError, match="cannot be started from"):
        load_starting_weights(network, first)
    with pytest.raises(RunError, match="no epoch was trained to its end"):
        load_starting_weights(network, tmp_path / "young")


def test_self_critical_training_needs_a_start(small_scenes: Path, tmp_path: Path) -> None:
    done = run_cli("train", small_scenes, "-o", tmp_path / "run", "--preset=self-critical", code=2)
    assert "objective self-critical goes on with a trained captioner: name its run with --from RUN" in done.stderr
    done = run_cli("train", small_scenes, "-o", tmp_path / "run", "--set=starting_temperature=0.5", code=2)
    assert "starting_temperature is of a captioner to start from: name its run with --from RUN" in done.stderr
    assert not (tmp_path / "run").exists()
    done = run_cli("train", small_scenes, "-o", tmp_path / "run", "--from", tmp_path / "none", code=1)
    assert "is not a run folder" in done.stderr


def test_objective_and_length_of_a_linear_schedule_are_kept(tmp_path: Path) -> None:
    config = make_config("self-critical")
    run = start_run(tmp_path / "run", DataSettings(("x",), from_run="y"), config)
    assert run == RunFolder(tmp_path / "run", DataSettings(("x",), from_run="y"), config) == open_run(tmp_path / "run")
    (tmp_path / "run" / "last.ckpt").touch()
    refused: list[tuple[dict[str, object], str]] = [
        ({"objective": "cross-entropy"}, "objective cannot change"),
        ({"samples": 3}, "samples cannot change"),
        ({"epochs": 30}, "in the middle of a linear schedule"),
    ]
    for changes, message in refused:
        with pytest.raises(RunError, match=message):
            resume_run(tmp_path / "run", changes)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"starting_temperature": 0}, "starting_temperature must be above 0"),
        ({"image_size": 31}, "image_size must be at least 32, got 31"),
        ({"image_size": 320, "backbone": "inception_v3"}, "inception_v3 takes photographs of one size only"),
        ({"objective": "reward"}, "objective must be cross-entropy or self-critical, got 'reward'"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"schedule": "cosine"}, "schedule must be constant, one-cycle or linear"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_config("base", setting)
