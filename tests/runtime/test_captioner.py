"""The captioner that people use: every kind of photograph, one by one and many at a time."""

import base64
import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pytest
from PIL import Image

import captionlens
from captionlens.datasets.scenes import draw_scenes
from captionlens.errors import CaptionlensError, ModelError, OptionError, UnreadableImage
from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.model_directory import ModelDirectory


@pytest.fixture(scope="module")
def captioner(small_model: Path) -> Captioner:
    return captionlens.load(small_model, threads=1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten pictures, in order."""
    folder = draw_scenes(tmp_path_factory.mktemp("scenes"), images=10, seed=0, size=96)
    return sorted((folder / "images").iterdir())


@pytest.fixture(scope="module")
def one_by_one(captioner: Captioner, scenes: list[Path]) -> list[Caption]:
    captions = [captioner.caption(path) for path in scenes]
    assert len({caption.text for caption in captions}) > 5  # else comparing them would say little
    assert len(captions[3].words) > 2
    return captions


def assert_same(one: Caption, other: Caption) -> None:
    assert one.text == other.text
    assert one.log_prob == pytest.approx(other.log_prob, abs=1e-4)
    np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)
    for word, same in zip(one.words, other.words, strict=True):
        assert word.text == same.text
        assert word.probability == pytest.approx(same.probability, abs=1e-5)


def test_a_caption(captioner: Captioner, scenes: list[Path], one_by_one: list[Caption]) -> None:
    for path, caption in zip(scenes, one_by_one, strict=True):
        assert caption.text == " ".join(word.text for word in caption.words)
        assert all(word.text in captioner.vocabulary for word in caption.words)
        assert all(0 < word.probability <= 1 for word in caption.words)
        assert len(caption.words) <= 8
        # The probability of the whole is that of the words and, unless it was cut, of the end.
        assert caption.log_prob <= sum(np.log(word.probability) for word in caption.words) + 1e-4
        assert caption.path == str(path)
        assert caption.model == captioner.name == "captionlens-small"
        assert caption.error is None


def test_attention(one_by_one: list[Caption]) -> None:
    for caption in one_by_one:
        assert caption.attention.shape == (len(caption.words), 7, 7)
        assert caption.attention.dtype == np.float32
        assert (caption.attention >= 0).all()
        np.testing.assert_allclose(caption.attention.sum((1, 2)), 1, atol=1e-5)
    # The untrained network looks somewhere, too, and elsewhere in another photograph.
    longest = max(one_by_one, key=lambda caption: len(caption.words))
    assert longest.attention.max() > 2 / 49
    others = [caption.attention[0] for caption in one_by_one if caption.words and caption is not longest]
    assert all(np.abs(longest.attention[0] - other).max() > 1e-4 for other in others)


def test_the_own_captions_forced_give_their_own_probabilities(
    captioner: Captioner, scenes: list[Path], one_by_one: list[Caption]
) -> None:
    texts = [caption.text for caption in one_by_one]
    assert len({len(caption.words) for caption in one_by_one}) > 1  # shorter ones are padded
    for number, (path, wanted) in enumerate(zip(scenes, one_by_one, strict=True)):
        caption = captioner.force(path, texts)[number]
        assert caption.text == wanted.text
        np.testing.assert_allclose(caption.attention, wanted.attention, atol=1e-5)
        np.testing.assert_allclose(
            [word.probability for word in caption.words], [word.probability for word in wanted.words], atol=1e-5
        )
        # A caption that was cut at eight words has no end; forced, it has one.
        words = sum(np.log(word.probability) for word in caption.words)
        assert caption.log_prob < words
        assert caption.log_prob == pytest.approx(wanted.log_prob, abs=1e-4) or len(wanted.words) == 8
        assert (caption.path, caption.model) == (str(path), "captionlens-small")
        assert caption.image().size == (96, 96)


def test_what_can_be_forced(captioner: Captioner, scenes: list[Path]) -> None:
    known, unknown, empty = captioner.force(scenes[0], ["A red circle.", "a zebra, <unk>!", "..."])
    assert [word.text for word in known.words] == ["a", "red", "circle"]
    assert [word.text for word in unknown.words] == ["a", "zebra", "<unk>"]
    assert unknown.words[0].probability == pytest.approx(known.words[0].probability, rel=1e-4)
    np.testing.assert_allclose(unknown.attention.sum((1, 2)), 1, atol=1e-5)
    assert (empty.text, empty.words, empty.attention.shape) == ("", (), (0, 7, 7))
    assert captioner.force(scenes[0], []) == []
    with pytest.raises(OptionError, match="several texts"):
        captioner.force(scenes[0], "a red circle")
    with pytest.raises(UnreadableImage, match=r"none\.png"):
        captioner.force("none.png", ["a red circle"])


def test_every_kind_of_source(captioner: Captioner, scenes: list[Path], one_by_one: list[Caption]) -> None:
    path, wanted = scenes[3], one_by_one[3]
    with path.open("rb") as file, Image.open(path) as image:
        array = np.asarray(image.convert("RGB"))
        sources: list[tuple[Any, str]] = [
            (path, str(path)),
            (str(path), str(path)),
            (path.read_bytes(), "<bytes>"),
            (io.BytesIO(path.read_bytes()), "<BytesIO>"),
            (file, str(path)),
            (image, str(path)),
            (array, "<ndarray>"),
        ]
        for source, name in sources:
            caption = captioner.caption(source)
            assert_same(caption, wanted)
            assert caption.path == name
            assert caption.image().size == (96, 96)  # what the figure draws upon is still there


def test_a_file_object_is_read_from_its_beginning(
    captioner: Captioner, scenes: list[Path], one_by_one: list[Caption]
) -> None:
    buffer = io.BytesIO()
    with Image.open(scenes[3]) as image:
        image.save(buffer, "PNG")  # leaves it at its end
    assert_same(captioner.caption(buffer), one_by_one[3])
    with tempfile.TemporaryFile() as nameless:
        nameless.write(buffer.getvalue())
        assert_same(captioner.caption(nameless), one_by_one[3])


class Stream(io.RawIOBase):
    """As a pipe: it cannot be rewound."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part, self.content = self.content[: len(buffer)], self.content[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def test_a_stream_that_cannot_be_rewound(captioner: Captioner, scenes: list[Path], one_by_one: list[Caption]) -> None:
    stream = cast(IO[bytes], Stream(scenes[3].read_bytes()))  # typing counts only buffered streams among these
    caption = captioner.caption(stream)
    assert_same(caption, one_by_one[3])
    assert caption.image().size == (96, 96)


def test_what_cannot_be_read_is_refused_by_name(captioner: Captioner, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"none\.jpg: no such file"):
        captioner.caption(tmp_path / "none.jpg")
    (tmp_path / "text.jpg").write_text("text")
    file = (tmp_path / "text.jpg").open("rb")
    with file, pytest.raises(UnreadableImage, match=r"text\.jpg: not a photograph"):
        captioner.caption(file)
    with pytest.raises(UnreadableImage, match=r"text\.jpg: .*closed file"):
        captioner.caption(file)
    text = (tmp_path / "text.jpg").open()
    with text, pytest.raises(UnreadableImage, match=r"text\.jpg: is open as text, not in binary"):
        captioner.caption(text)  # type: ignore[arg-type]


def test_options(captioner: Captioner, scenes: list[Path], one_by_one: list[Caption]) -> None:
    longest = max(range(10), key=lambda number: len(one_by_one[number].words))
    short = captioner.caption(scenes[longest], DecodingOptions(beam=1, max_words=2))
    assert len(short.words) <= 2 < len(one_by_one[longest].words)
    hot = DecodingOptions(temperature=5.0, max_words=8)
    samples = {captioner.caption(scenes[0], replace(hot, seed=seed)).text for seed in range(5)}
    assert len(samples) > 1
    assert captioner.options == DecodingOptions(beam=3, max_words=8)  # calls leave the model's own alone


# Pictures of where it looked.


def test_overlay_and_figure(captioner: Captioner, tmp_path: Path, one_by_one: list[Caption]) -> None:
    caption = max(one_by_one, key=lambda caption: len(caption.words))
    overlay = caption.overlay(1)
    assert overlay.size == (96, 96)
    assert overlay.mode == "RGB"
    assert (np.asarray(overlay) != np.asarray(caption.image())).any()
    with pytest.raises(IndexError):
        caption.overlay(len(caption.words))
    figure = caption.figure()
    assert figure.mode == "RGB"
    assert figure.width * figure.height > (len(caption.words) + 1) * 96 * 96
    figure.save(tmp_path / "figure.png")
    wide = captioner.caption(Image.new("RGB", (300, 100), "red"))
    if wide.words:
        assert wide.overlay(0).size == (300, 100)
    assert wide.figure().width > 300


def test_overlays_are_upright(captioner: Captioner) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (120, 60), "blue").save(buffer, "JPEG", exif=exif)
    caption = captioner.caption(buffer.getvalue())
    assert caption.image().size == (60, 120)


def test_a_photograph_that_has_gone(captioner: Captioner, scenes: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(scenes[0].read_bytes())
    caption = captioner.caption(path)
    path.unlink()
    with pytest.raises(UnreadableImage, match="no such file"):
        caption.figure()


def test_to_dict(one_by_one: list[Caption]) -> None:
    caption = one_by_one[3]
    plain = caption.to_dict()
    assert list(plain) == ["path", "caption", "log_prob", "words", "model"]
    assert plain["caption"] == caption.text
    assert plain["log_prob"] == pytest.approx(caption.log_prob, abs=1e-6)
    assert [set(word) for word in plain["words"]] == [{"text", "probability"}] * len(caption.words)
    detailed = caption.to_dict(attention=True)
    np.testing.assert_allclose([word["attention"] for word in detailed["words"]], caption.attention, atol=1e-6)
    failed = Caption("", path="x.jpg", error=UnreadableImage("x.jpg", "no such file"))
    assert failed.to_dict(attention=True) == {
        "path": "x.jpg",
        "error": {"type": "unreadable-image", "message": "x.jpg: no such file"},
    }
    with pytest.raises(UnreadableImage):
        failed.figure()
    with pytest.raises(CaptionlensError, match="does not know its photograph"):
        Caption("a", words=(Word("a", 1.0),)).image()


# Many at a time.


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_many_in_order_whatever_the_batches(
    batch_size: int, captioner: Captioner, scenes: list[Path], one_by_one: list[Caption]
) -> None:
    captions = list(captioner.caption_many(scenes, batch_size=batch_size))
    assert [caption.path for caption in captions] == [str(path) for path in scenes]
    for caption, wanted in zip(captions, one_by_one, strict=True):
        assert_same(caption, wanted)


def test_random_captions_do_not_depend_on_the_batches(captioner: Captioner, scenes: list[Path]) -> None:
    options = DecodingOptions(temperature=2.0, max_words=6, seed=5)
    texts = [
        [caption.text for caption in captioner.caption_many(scenes, batch_size=batch_size, options=options)]
        for batch_size in (1, 4, 10)
    ]
    assert texts[0] == texts[1] == texts[2]
    other = [c.text for c in captioner.caption_many(scenes, options=replace(options, seed=6))]
    assert other != texts[0]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_bad_photograph_keeps_its_place(
    batch_size: int, captioner: Captioner, scenes: list[Path], one_by_one: list[Caption], tmp_path: Path
) -> None:
    (tmp_path / "half.png").write_bytes(scenes[0].read_bytes()[:500])
    (tmp_path / "text.png").write_text("text")
    with (tmp_path / "text.png").open("rb") as file:
        sources: list[Any] = [
            tmp_path / "none.png", scenes[3], tmp_path / "half.png", b"", file, scenes[2], np.zeros((2, 2))
        ]  # fmt: skip
        captions = list(captioner.caption_many(sources, batch_size=batch_size))
    assert [caption.error is None for caption in captions] == [False, True, False, False, False, True, False]
    assert_same(captions[1], one_by_one[3])
    assert_same(captions[5], one_by_one[2])
    for caption, name in ((captions[0], "none.png"), (captions[2], "half.png"), (captions[4], "text.png")):
        assert isinstance(caption.error, UnreadableImage)
        assert str(caption.error).startswith(f"{tmp_path / name}: ")
        assert caption.path == str(tmp_path / name)
        assert caption.text == ""
        assert caption.words == ()


def test_only_bad_photographs_and_none_at_all(captioner: Captioner, tmp_path: Path) -> None:
    assert list(captioner.caption_many([])) == []
    captions = list(captioner.caption_many([tmp_path / str(number) for number in range(5)], batch_size=2))
    assert all(caption.error for caption in captions)
    assert len(captions) == 5


class Watched:
    """Photographs that tell how many of them were asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths, self.taken = paths, 0

    def __iter__(self) -> Iterator[Path]:
        for path in self.paths:
            self.taken += 1
            yield path


def test_photographs_are_asked_for_lazily(captioner: Captioner, scenes: list[Path]) -> None:
    photographs = Watched(scenes * 3)
    captions = captioner.caption_many(photographs, batch_size=2)
    assert photographs.taken == 0
    for number in range(1, 31):
        next(captions)
        begun = (number + 1) // 2 * 2  # captions of the batches that were begun
        assert photographs.taken <= begun + 2
    with pytest.raises(StopIteration):
        next(captions)


def test_stopping_early_is_fine(captioner: Captioner, scenes: list[Path]) -> None:
    captions = captioner.caption_many(Watched(scenes), batch_size=2)
    next(captions)
    captions.close()  # type: ignore[attr-defined]
    assert list(captions) == []


def test_what_the_callers_generator_raises_comes_through(captioner: Captioner, scenes: list[Path]) -> None:
    def broken() -> Iterator[Path]:
        yield from scenes[:2]
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        list(captioner.caption_many(broken(), batch_size=1))


def test_wrong_use_is_told_at_once(captioner: Captioner, scenes: list[Path]) -> None:
    for batch_size in (0, -1):
        with pytest.raises(OptionError, match=f"batch_size must be at least 1, got {batch_size}"):
            captioner.caption_many(scenes, batch_size=batch_size)
    for single in (str(scenes[0]), scenes[0].read_bytes()):
        with pytest.raises(OptionError, match="single"):
            captioner.caption_many(single)  # type: ignore[arg-type]


def test_features_from_a_store(captioner: Captioner, scenes: list[Path], one_by_one: list[Caption]) -> None:
    """Half precision, as the store keeps them, is nearly the same."""
    pixels = np.stack([captioner.preprocessing.read(path) for path in scenes])
    features = np.asarray(captioner.network.encode(captioner.preprocessing.normalise(pixels)))
    assert features.shape == (10, 49, 32)
    for caption, wanted in zip(captioner.caption_features(features), one_by_one, strict=True):
        assert_same(caption, wanted)
        assert caption.path is None
    halves = captioner.caption_features(features.astype(np.float16))
    same = [one.text == other.text for one, other in zip(halves, one_by_one, strict=True)]
    assert sum(same) >= 8
    assert captioner.caption_features(features[:0]) == []


def test_threads_do_not_change_captions(small_model: Path, scenes: list[Path], one_by_one: list[Caption]) -> None:
    several = captionlens.load(small_model, threads=2)
    assert_same(several.caption(scenes[3]), one_by_one[3])


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model directory"):
        captionlens.load(tmp_path / "none")


def test_captioning_imports_no_torch(small_model: Path, scenes: list[Path]) -> None:
    code = (
        "import sys, captionlens\n"
        "caption = captionlens.load(sys.argv[1]).caption(sys.argv[2])\n"
        "caption.figure()\n"
        "heavy = {'torch', 'lightning', 'fastapi', 'onnx', 'matplotlib', 'h5py'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(caption.text)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, small_model, scenes[3]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_torch_and_onnx_say_the_same(small_model: Path, scenes: list[Path]) -> None:
    """At batch sizes the graphs were not traced with."""
    safetensors = pytest.importorskip("safetensors.torch")
    from captionlens.export.torch_network import TorchNetwork
    from captionlens.network import CaptioningNetwork, NetworkConfig
    from captionlens.runtime.decoding import beam_search
    from captionlens.runtime.model_directory import ModelDirectory
    from captionlens.runtime.onnx_network import OnnxNetwork
    from helpers.tiny_backbone import TinyBackbone

    model = ModelDirectory.open(small_model)
    tensors = {name: tensor.float() for name, tensor in safetensors.load_file(model.weights).items()}
    network = CaptioningNetwork(NetworkConfig(**model.config["network"])).eval()
    backbone = TinyBackbone().fuse()
    for prefix, part in (("network.", network), ("backbone.", backbone)):
        part.load_state_dict(
            {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        )
    onnx_side, torch_side = OnnxNetwork(model), TorchNetwork(network, backbone)
    for count in (1, 5):
        pixels = np.stack([model.preprocessing.read(path) for path in scenes[:count]])
        images = model.preprocessing.normalise(pixels)
        features = torch_side.encode(images)
        np.testing.assert_allclose(onnx_side.encode(images), features.numpy(), atol=1e-3)
        ours = beam_search(torch_side, features, model.decoding)
        theirs = beam_search(onnx_side, features.numpy(), model.decoding)
        for one, other in zip(ours, theirs, strict=True):
            assert [h.tokens for h in one] == [h.tokens for h in other]
            np.testing.assert_allclose([h.score for h in one], [h.score for h in other], atol=1e-4)
            for mine, yours in zip(one, other, strict=True):
                np.testing.assert_allclose(mine.attention, yours.attention, atol=1e-4)


def test_short_representations(captioner: Captioner, scenes: list[Path], small_model: Path) -> None:
    rows, columns = captioner.grid
    words = len(captioner.vocabulary)
    assert repr(captioner) == f"Captioner({captioner.name!r}, {words:,} words, grid {rows} x {columns})"
    assert repr(captioner.vocabulary).startswith(f"Vocabulary({words:,} words: ")
    assert repr(ModelDirectory.open(small_model)) == (
        f"ModelDirectory({str(small_model)!r}, name='captionlens-small', 18 words)"
    )
    caption = captioner.caption(scenes[0])
    assert repr(caption).startswith(f"Caption({caption.text!r}, path={str(scenes[0])!r}")
    assert len(repr(caption)) < 200
    failed = Caption("", path="x.jpg", error=UnreadableImage("x.jpg", "is empty"))
    assert repr(failed) == "Caption(path='x.jpg', error='x.jpg: is empty')"


def test_a_notebook_shows_the_figure(captioner: Captioner, scenes: list[Path]) -> None:
    caption = captioner.caption(scenes[0])
    shown = caption._repr_html_()
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', shown)
    with Image.open(io.BytesIO(base64.b64decode(picture))) as figure:
        assert figure.size == caption.figure().size
    assert f"<figcaption>{caption.text}</figcaption>" in shown
    failed = Caption("", path="<b>", error=UnreadableImage("<b>", "is empty"))
    assert failed._repr_html_() == "<p>&lt;b&gt;: is empty</p>"
