"""Training as a command: settings, resuming after a kill, what a run folder holds."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import yaml
from PIL import Image

from captionlens.errors import OptionError, RunError
from captionlens.export.rewriting import export_again
from captionlens.runtime.model_directory import PACKAGED_MODEL
from captionlens.training.config import PRESETS, make_config, parse_settings
from captionlens.training.run_export import export_run
from captionlens.training.run_folder import DataSettings, open_run, resume_run, start_run
from helpers.cli import COMMAND, SMALL_CAPTIONER, run_cli, run_process, wait_for

pytestmark = pytest.mark.slow

SETTINGS = [*SMALL_CAPTIONER, "--set=epochs=4"]


@pytest.fixture(scope="module")
def finished(small_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    run_process("train", small_scenes, "-o", run, *SETTINGS)
    return run


def test_run_folder_explains_itself(finished: Path, small_scenes: Path) -> None:
    there = {path.name for path in finished.iterdir()}
    assert there == {
        *("best.json", "best.safetensors", "config.yaml", "features", "history.csv", "last.ckpt"),
        *("logs", "loss.png", "model", "samples.jsonl", "summary.json", "tokenizer.json"),
    }
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["data"]["datasets"] == [str(small_scenes)]
    assert config["training"]["network"]["units"] == 64
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary["seconds"]) == {"features", "training", "validation", "export", "this_command"}
    assert summary["captions_per_second"] > 0
    history = summary["history"]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["loss"] < history[0]["loss"]
    assert summary["best"]["val_cider"] == max(row["val_cider"] for row in history)
    samples = [json.loads(line) for line in (finished / "samples.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in samples] == [1, 2, 3, 4]
    assert len({tuple(c["photograph"] for c in line["captions"]) for line in samples}) == 1
    with Image.open(finished / "loss.png") as plot:
        assert plot.width > 400
        assert len(plot.convert("RGB").getcolors(1_000_000) or ()) > 20
    assert list((finished / "logs" / "tensorboard").glob("events*"))
    assert (finished / "logs" / "csv" / "version_0" / "metrics.csv").stat().st_size > 0


def test_captioner_searches_as_validation_did(finished: Path) -> None:
    config = open_run(finished).config
    exported = json.loads((finished / "model" / "config.json").read_text())["decoding"]
    assert exported == {"beam": 1, "length_penalty": config.length_penalty, "max_words": 30}
    assert {name: getattr(config.decoding, name) for name in exported} == exported


def test_finished_run_is_not_trained_again(finished: Path, small_scenes: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    before = (run / "summary.json").read_bytes()
    for options, there in (([], True), (["--no-export"], False), ([], True)):
        if not there:
            shutil.rmtree(run / "model")
        done = run_cli("train", small_scenes, "-o", run, *SETTINGS, *options)
        assert "finished already" in done.stderr
        assert (run / "summary.json").read_bytes() == before
        assert (run / "model").exists() == there


def test_run_that_goes_on_leaves_no_model_of_before(finished: Path, small_scenes: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    arguments = ["train", small_scenes, "-o", run, "--resume", "--set=gradient_clip=9.5", "--no-export"]
    refused = run_cli(*arguments, code=1)
    assert f"{run / 'model'}: is of this run before it went on: move it away" in refused.stderr
    assert (run / "model" / "manifest.json").exists()
    (run / "model").rename(tmp_path / "before")
    assert run_cli(*arguments).stderr.rstrip().endswith("no model yet")
    assert open_run(run).finished
    assert not (run / "model").exists()


def test_killed_training_goes_on_and_ends_with_the_same_weights(
    finished: Path, small_scenes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    arguments = ["train", str(small_scenes), "-o", str(run), *SETTINGS, "--no-export"]
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.DEVNULL)
    wait_for(run / "last.ckpt", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (run / "last.ckpt").exists()
    assert not (run / "summary.json").exists()
    done = run_process(*arguments)
    assert "going on from" in done.stderr
    assert (run / "history.csv").read_text() == (finished / "history.csv").read_text()
    ours = safetensors.numpy.load_file(run / "best.safetensors")
    theirs = safetensors.numpy.load_file(finished / "best.safetensors")
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 2)])
def test_best_or_last_epoch_is_kept(keep: str, epoch: int, finished: Path, small_scenes: Path, tmp_path: Path) -> None:
    # Nothing is learned, so no epoch is better than the first.
    settings = [*SETTINGS, "--no-export", "--set=epochs=2", "--set=learning_rate=1e-12", f"--set=keep={keep}"]
    done = run_cli("train", small_scenes, "-o", tmp_path / "run", "--features", finished / "features", *settings)
    assert f"kept epoch {epoch}: CIDEr-D" in done.stderr
    assert json.loads((tmp_path / "run" / "best.json").read_text())["epoch"] == epoch


def test_exported_again_the_model_is_the_same_but_for_what_was_asked(finished: Path, tmp_path: Path) -> None:
    assert json.loads((finished / "model" / "config.json").read_text())["name"] == "whole"  # the folder's
    run = shutil.copytree(finished, tmp_path / "run")
    resume_run(run, {}, "My dogs")
    assert not open_run(run).finished  # its model has another name
    run_cli("export", run, "-o", tmp_path / "model", "--beam=4", "--quiet")
    for name in ("model.safetensors", "tokenizer.json", "onnx/step.onnx"):
        assert (tmp_path / "model" / name).read_bytes() == (finished / "model" / name).read_bytes(), name
    configs = [json.loads((model / "config.json").read_text()) for model in (tmp_path / "model", finished / "model")]
    assert [config["decoding"].pop("beam") for config in configs] == [4, configs[1]["training"]["beam"]]
    assert [config.pop("name") for config in configs] == ["My dogs", "whole"]
    assert (tmp_path / "model" / "README.md").read_text().startswith("# My dogs\n")
    assert configs[0] == configs[1]
    assert "is whole" in run_cli("model", "check", tmp_path / "model").stdout


@pytest.mark.parametrize("name", ["", " ", "a\nb", "runs/mine", "a\\b", ".."])
def test_names_that_are_none_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="name must be one line without / and"):
        start_run(tmp_path / "run", DataSettings(("x",)), make_config("base"), name)
    assert not (tmp_path / "run").exists()
    run = start_run(tmp_path / "run", DataSettings(("x",)), make_config("base"), "mine")
    with pytest.raises(OptionError, match="name must be one line"):
        resume_run(run.path, {}, name)
    with pytest.raises(OptionError, match="name must be one line"):
        export_run(run, name=name)
    with pytest.raises(OptionError, match="name must be one line"):
        export_again(PACKAGED_MODEL, tmp_path / "model", name=name)


def test_run_of_the_version_before_opens_without_a_name(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", DataSettings(("x",)), make_config("base"))
    content = yaml.safe_load((run.path / "config.yaml").read_text())
    assert content.pop("name") is None
    (run.path / "config.yaml").write_text(yaml.safe_dump(content))
    assert open_run(run.path) == run == start_run(run.path, run.data, run.config)
    assert run.model_name == "run"
    with pytest.raises(RunError, match="name None, now 'mine'"):
        start_run(run.path, run.data, run.config, "mine")


@pytest.mark.parametrize(
    ("arguments", "split_seed", "seed"),
    [
        ([], 1, 1),
        (["--seed=7"], 7, 7),
        (["--seed=7", "--set=seed=3"], 7, 3),
        (["--seed=7", "-c", "FILE"], 7, 5),
        (["--set=seed=3"], 1, 3),
    ],
)
def test_one_seed_is_of_everything_unless_training_has_its_own(
    arguments: list[str], split_seed: int, seed: int, tmp_path: Path, small_scenes: Path
) -> None:
    (tmp_path / "settings.yaml").write_text("seed: 5\n")
    arguments = [str(tmp_path / "settings.yaml") if argument == "FILE" else argument for argument in arguments]
    # A run has begun when its data set is read, before its backbone is.
    data = [small_scenes, "-o", tmp_path / "run", "--backbone-weights=/nowhere"]
    run_cli("train", *data, *arguments, code=1)
    begun = open_run(tmp_path / "run")
    assert (begun.data.split_seed, begun.config.seed) == (split_seed, seed)
    assert make_config("base").seed == DataSettings(("x",)).split_seed == 1
    run_cli("train", *data, "--resume", "--seed=9", code=1)
    assert open_run(tmp_path / "run") == begun


def test_a_run_whose_data_set_cannot_be_read_has_not_begun(tmp_path: Path, finished: Path) -> None:
    table = tmp_path / "data" / "captions.csv"
    table.parent.mkdir()
    table.write_bytes("Bild,Text\n1.jpg,Bär\n".encode("cp1252"))
    run_cli("train", table, "-o", tmp_path / "run", code=1)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run" / "features").mkdir(parents=True)
    run_cli("train", table, "-o", tmp_path / "run", "--encoding=cp1252", code=1)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["features"]
    run_cli("train", table, "-o", finished, "--resume", code=1)
    assert open_run(finished).finished


def test_other_settings_do_not_touch_a_run(finished: Path, small_scenes: Path) -> None:
    done = run_cli("train", small_scenes, "-o", finished, *SETTINGS, "--set=epochs=9", code=1)
    assert "holds a run with other settings (epochs 4, now 9)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["/nowhere"], "/nowhere", 1),
        (["DATA", "--preset=grand"], "unknown preset 'grand'", 2),
        (["DATA", "--set=epochs=0"], "epochs must be at least 1", 2),
        (["DATA", "--set=keep=first"], "keep must be best or last, got 'first'", 2),
        (["DATA", "--set=epochs"], "--set wants key=value", 2),
        (["DATA", "--set=speed=3"], "unknown setting 'speed'", 2),
        (["DATA", "--set=network.depth=3"], "unknown network setting 'depth'", 2),
        (["DATA", "--backbone=vgg"], "unknown backbone 'vgg'", 2),
        (["DATA", "--devices=tpu"], "devices must be", 2),
        (["DATA", "-c", "/nowhere.yaml"], "/nowhere.yaml", 1),
        (["DATA", "--resume"], "is not a run folder", 1),
    ],
)
def test_wrong_usage_is_told_in_a_line(
    arguments: list[str], message: str, code: int, small_scenes: Path, tmp_path: Path
) -> None:
    arguments = [str(small_scenes) if argument == "DATA" else argument for argument in arguments]
    done = run_cli("train", *arguments, "-o", tmp_path / "run", code=code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_foreign_folder_is_not_trained_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match="is there already and is not a run"):
        start_run(tmp_path, DataSettings(("x",)), make_config("base"))


def test_same_settings_go_on_and_others_are_refused(tmp_path: Path) -> None:
    config, data = make_config("base"), DataSettings(("x",), features="store")
    run = start_run(tmp_path / "run", data, config)
    assert start_run(tmp_path / "run", data, config) == run
    assert open_run(tmp_path / "run") == run
    with pytest.raises(RunError, match=r"datasets \['x'\], now \['y'\]"):
        start_run(tmp_path / "run", replace(data, datasets=("y",)), config)


def test_resuming_changes_only_what_may_change(tmp_path: Path) -> None:
    start_run(tmp_path / "run", DataSettings(("x",)), make_config("tutorial"))
    assert resume_run(tmp_path / "run", {"epochs": 30}).config.epochs == 30
    assert open_run(tmp_path / "run").config.epochs == 30
    with pytest.raises(RunError, match="vocabulary_size cannot change"):
        resume_run(tmp_path / "run", {"vocabulary_size": 10})


def test_one_cycle_schedule_keeps_its_length(tmp_path: Path) -> None:
    start_run(tmp_path / "run", DataSettings(("x",)), make_config("base"))
    (tmp_path / "run" / "last.ckpt").touch()
    with pytest.raises(RunError, match="one-cycle"):
        resume_run(tmp_path / "run", {"epochs": 30})


def test_settings_are_read_as_they_look() -> None:
    changes = parse_settings(("epochs=3", "learning_rate=1e-3", "network.gated_context=true", "preset=base"))
    assert changes == {"epochs": 3, "learning_rate": 0.001, "network.gated_context": True, "preset": "base"}
    config = make_config("tutorial", {"network": {"units": 8}, "learning_rate": 1}, {"network.memory": 9})
    assert config.network == {"units": 8, "memory": 9}
    assert config.learning_rate == 1.0
    with pytest.raises(OptionError, match="epochs must be int, got '3'"):
        make_config("tutorial", {"epochs": "3"})


def test_tutorial_preset_has_the_tutorials_sizes() -> None:
    config = make_config("tutorial")
    network = config.network_config(vocabulary=5004, rows=8, columns=8, channels=2048)
    assert (network.memory, network.embedding, network.units, network.attention) == (256, 256, 512, 512)
    assert (network.initial_state, network.gated_context, network.deep_output) == ("zero", False, False)
    assert (config.epochs, config.batch_captions, config.vocabulary_size) == (20, 64, 5000)
    assert set(PRESETS) >= {"tutorial", "base"}
