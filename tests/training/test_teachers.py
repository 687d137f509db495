"""Teachers: their mean distribution and their captions, what is kept of them, and a captioner that learns from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captionlens.errors import OptionError, RunError
from captionlens.export.torch_network import TorchNetwork
from captionlens.features.store import FeatureStore
from captionlens.runtime.decoding import DecodingOptions, decode
from captionlens.runtime.teacher_forcing import forced_words
from captionlens.runtime.vocabulary import END, START, Vocabulary
from captionlens.training.config import make_config
from captionlens.training.run_export import load_best
from captionlens.training.run_folder import DataSettings, open_run, start_run
from captionlens.training.teachers import KEPT, Ensemble, Teachers
from helpers.cli import SMALL_CAPTIONER, run_cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(small_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two captioners of the same words, and other weights and shapes, each with two epochs of training."""
    folder = tmp_path_factory.mktemp("teachers")
    common = ("train", small_scenes, *SMALL_CAPTIONER, "--set=epochs=2", "--no-export")
    run_cli(*common, "-o", folder / "a")
    features = ("--features", folder / "a" / "features")
    run_cli(*common, "-o", folder / "b", *features, "--set=seed=2", "--set=network.cell=lstm")
    return [folder / "a", folder / "b"]


@pytest.fixture
def members(runs: list[Path]) -> list[tuple[TorchNetwork, FeatureStore]]:
    return [(TorchNetwork(load_best(open_run(run))[0]), FeatureStore.open(runs[0] / "features")) for run in runs]


def views_of(run: Path, count: int = 30) -> tuple[Vocabulary, list[tuple[str, list[list[int]]]]]:
    """Photographs of a run's store, each with one to three captions."""
    vocabulary = Vocabulary.load(run / "tokenizer.json")
    keys = json.loads((run / "features" / "shard-00000.json").read_text())[:count]
    texts = ["there is a red circle above a blue square", "a green triangle", "two shapes"]
    return vocabulary, [
        (key, [vocabulary.encode(text) for text in texts[: 1 + number % 3]]) for number, key in enumerate(keys)
    ]


def test_an_ensemble_says_the_mean(members: list[tuple[TorchNetwork, FeatureStore]], runs: list[Path]) -> None:
    vocabulary, views = views_of(runs[0], 7)
    keys = [key for key, _ in views]
    tokens = np.array([[vocabulary.encode("a green triangle")]] * len(keys))
    own = [np.exp(forced_words(network, store.read(keys), tokens)[0]) for network, store in members]
    together, _ = forced_words(Ensemble(members), keys, tokens)
    np.testing.assert_allclose(np.exp(together), np.mean(own, 0), rtol=1e-4)
    assert np.abs(own[0] - own[1]).max() > 0.01
    # Of the same captioner twice, it is that captioner; beams and photographs that end early included.
    twice = decode(Ensemble([members[0]] * 2), keys, DecodingOptions(beam=3))
    once = decode(members[0][0], members[0][1].read(keys), DecodingOptions(beam=3))
    assert [caption.tokens for caption in twice] == [caption.tokens for caption in once]


def test_masses_are_the_most_probable_words(
    members: list[tuple[TorchNetwork, FeatureStore]], runs: list[Path], tmp_path: Path
) -> None:
    vocabulary, views = views_of(runs[0])
    masses = Teachers(runs, vocabulary, tmp_path / "t").masses(views, progress=False)
    assert list(masses) == [key for key, _ in views]
    for key, captions in views[:6]:
        for caption, kept in zip(captions, masses[key], strict=True):
            said = [network.start(store.read([key])) for network, store in members]
            for place, previous in enumerate(caption[:-1]):
                distributions = []
                for member, (network, _) in enumerate(members):
                    log_probs, _, said[member] = network.step(np.array([[previous]]), said[member])
                    distributions.append(np.exp(log_probs[0, 0]))
                mean = np.mean(distributions, 0)
                order = np.argsort(-mean)[:KEPT]
                np.testing.assert_allclose(kept.masses[place], mean[order], rtol=2e-3, atol=1e-5)
                np.testing.assert_allclose(mean[kept.words[place]], mean[order], rtol=1e-4)
            assert len(kept.words) == len(caption) - 1


def test_captions_fill_up_what_is_missing(runs: list[Path], tmp_path: Path) -> None:
    vocabulary, views = views_of(runs[0])
    teachers = Teachers(runs, vocabulary, tmp_path / "t")
    added = teachers.captions(views, 3, max_words=12, progress=False)
    assert len(added) == len(views)
    assert sum(map(len, added)) > 8
    for (_, captions), more in zip(views, added, strict=True):
        assert len(captions) + len(more) <= 3
        together = [tuple(caption) for caption in (*captions, *more)]
        assert len(set(together)) == len(together)
        for caption in more:
            assert (caption[0], caption[-1]) == (START, END)
            assert 0 < len(caption) - 2 <= 12


def test_parts_are_kept_and_told_apart(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run reads the whole parts again; parts of other photographs, and damaged ones, are refused by name."""
    monkeypatch.setattr("captionlens.training.teachers.PART", 8)
    vocabulary, views = views_of(runs[0])
    teachers = Teachers(runs, vocabulary, tmp_path / "t")
    masses = teachers.masses(views, progress=False)
    parts = sorted((tmp_path / "t").iterdir())
    assert [part.name for part in parts] == [f"words-{number:05d}.npz" for number in range(4)]
    parts[-1].unlink()
    before = parts[0].stat().st_mtime_ns
    again = teachers.masses(views, progress=False)
    assert parts[0].stat().st_mtime_ns == before
    for key, captions in masses.items():
        for one, other in zip(captions, again[key], strict=True):
            assert np.array_equal(one.words, other.words)
            assert np.array_equal(one.masses, other.masses)
    with pytest.raises(RunError, match="of other photographs or captions"):
        teachers.masses(views[1:], progress=False)
    parts[2].write_bytes(parts[2].read_bytes()[:200])
    with pytest.raises(RunError, match=rf"{parts[2].name}: is damaged"):
        teachers.masses(views, progress=False)


def test_a_captioner_learns_from_them(runs: list[Path], small_scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments: tuple[Any, ...] = (
        *("train", small_scenes, "-o", run, "--features", runs[0] / "features", *SMALL_CAPTIONER),
        *("--teacher", runs[0], "--teacher", runs[1], "--set=distillation=0.9", "--set=teacher_captions=12"),
        *("--set=epochs=3", "--no-export"),
    )
    done = run_cli(*arguments)
    assert "learning from 2 teachers" in done.stderr
    history = json.loads((run / "summary.json").read_text())["history"]
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    assert {path.name.partition("-")[0] for path in (run / "teachers").iterdir()} == {"captions", "words"}
    assert "finished already" in run_cli(*arguments).stderr


def test_teachers_that_do_not_fit(runs: list[Path], tmp_path: Path) -> None:
    others = Vocabulary.build(["some other words"])
    with pytest.raises(RunError, match="has other words"):
        Teachers(runs, others, tmp_path / "t")
    with pytest.raises(OptionError, match="name their runs with --teacher"):
        start_run(tmp_path / "r", DataSettings(("x",)), make_config("base", {"distillation": 0.5}))
    with pytest.raises(OptionError, match="changes nothing without"):
        start_run(tmp_path / "r", DataSettings(("x",), teachers=("y",)), make_config("base"))
