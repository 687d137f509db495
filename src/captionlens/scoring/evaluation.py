"""Evaluation of a captioner on a split: captions, scores with intervals, confidence, grounding, faithfulness."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captionlens.datasets.phrase_targets import phrase_of_words
from captionlens.datasets.phrases import PhraseReader
from captionlens.datasets.records import Record
from captionlens.errors import CaptionlensError, DatasetError, FileError, UnreadableImage
from captionlens.files import write_text
from captionlens.geometry.grid_cells import SHARE
from captionlens.runtime.caption import Caption
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.decoding import DecodingOptions
from captionlens.scoring.confidence_scores import confidence_report
from captionlens.scoring.faithfulness_scores import content_words, function_words, named_nouns
from captionlens.scoring.faithfulness_scores import summarise as summarise_faithfulness
from captionlens.scoring.grounding import score_own, score_reference, summarise
from captionlens.scoring.scores import Scores, score_captions


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of `evaluate`: the report as plain values, and the photographs that could not be read."""

    report: dict[str, Any]
    scores: Scores
    failed: tuple[tuple[str, str], ...]  # path and cause

    def save(self, path: Path) -> None:
        """Write REPORT.json."""
        write_text(path, json.dumps(self.report, indent=1, ensure_ascii=False) + "\n")


def evaluate(
    captioner: Captioner,
    records: Sequence[Record],
    *,
    dataset: str,
    split: str,
    options: DecodingOptions | None = None,
    batch_size: int = 16,
    intervals: bool = True,
    meteor: bool = True,
    phrases: PhraseReader | None = None,
    faithfulness: bool = False,
    faithfulness_photographs: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Caption every photograph from its file and score the captions against the references.

    Args:
        captioner: of `captionlens.load`.
        records: photographs with their references.
        dataset: name of the data set, for the report.
        split: name of the split, for the report.
        options: of decoding; by default the model's own.
        batch_size: photographs at a time.
        intervals: add 95 % bootstrap intervals.
        meteor: add METEOR if Java is found.
        phrases: reads a photograph's phrases; if given, attention is compared with their boxes, see
            `scoring.grounding`.
        faithfulness: measure the faithfulness of the captions' words, see `scoring.faithfulness_scores`.
        faithfulness_photographs: measure it for the first so many photographs only; by default for all.
        progress: show a bar on a terminal.

    Raises:
        DatasetError: no photograph could be read.
    """
    options = options or captioner.options
    candidates: dict[int, Caption] = {}
    failed = []
    captions = captioner.caption_many([record.image for record in records], batch_size=batch_size, options=options)
    bar = tqdm(captions, total=len(records), desc="captions", unit="photo", disable=None if progress else True)
    for number, caption in enumerate(bar):
        if caption.error is not None:
            failed.append((str(records[number].image), str(caption.error)))
        else:
            candidates[number] = caption
    if not candidates:
        raise DatasetError(dataset, "not one photograph could be read")
    texts = {number: caption.text for number, caption in candidates.items()}
    references = {number: records[number].captions for number in candidates}
    scores = score_captions(texts, references, intervals=intervals, meteor=meteor)
    report = {
        "dataset": dataset,
        "split": split,
        "model": captioner.name,
        "decoding": asdict(options),
        "photographs": len(candidates),
        "failed": [{"path": path, "message": message} for path, message in failed],
        "scores": scores.scores,
        "intervals": {name: list(interval) for name, interval in scores.intervals.items()},
        "left_out": scores.left_out,
        "captions": [{"image_id": image_id(records[number]), "caption": text} for number, text in texts.items()],
    }
    confidence = _confidence(captioner, candidates, references, scores)
    if confidence is not None:
        report["confidence"] = confidence
    if phrases is not None:
        report["grounding"] = _grounding(captioner, records, candidates, phrases, intervals, progress)
    if faithfulness:
        examined = dict(islice(candidates.items(), faithfulness_photographs))
        report["faithfulness"] = _faithfulness(captioner, records, examined, phrases, intervals, progress)
    return Evaluation(report, scores, tuple(failed))


def _confidence(
    captioner: Captioner,
    captions: dict[int, Caption],
    references: dict[int, tuple[str, ...]],
    scores: Scores,
) -> dict[str, Any] | None:
    """Quality of the confidence, see `scoring.confidence_scores`; None without confidence, or without any words."""
    spoken = [number for number, caption in captions.items() if caption.words]
    if captioner.calibration is None or not spoken:
        return None
    numbers = [captioner.vocabulary.encode(captions[number].text)[1:-1] for number in spoken]
    return confidence_report(
        [captions[number] for number in spoken],
        [references[number] for number in spoken],
        [captioner.calibration.idf[of_caption] for of_caption in numbers],
        [scores.per_photograph["CIDEr-D"][number] for number in spoken],
    )


def _grounding(
    captioner: Captioner,
    records: Sequence[Record],
    captions: dict[int, Caption],
    phrases: PhraseReader,
    intervals: bool,
    progress: bool,
) -> dict[str, Any]:
    """Attention against boxes: of the references, by teacher forcing, and of the generated captions."""
    of_references, of_own, left_out = [], [], []
    for number, caption in tqdm(captions.items(), desc="grounding", unit="photo", disable=None if progress else True):
        try:
            references = phrases(records[number])
            forced = captioner.force(records[number].image, [" ".join(phrase_of_words(r)[0]) for r in references])
        except (DatasetError, UnreadableImage) as error:
            left_out.append({"path": str(records[number].image), "message": str(error)})
            continue
        of_references.append(
            [score for r, f in zip(references, forced, strict=True) for score in score_reference(r, f.attention)]
        )
        of_own.append(score_own([word.text for word in caption.words], caption.attention, references))
    return {
        **summarise(of_references, intervals=intervals),
        "own_captions": summarise(of_own, intervals=intervals),
        "left_out": left_out,
    }


def _faithfulness(
    captioner: Captioner,
    records: Sequence[Record],
    captions: dict[int, Caption],
    phrases: PhraseReader | None,
    intervals: bool,
    progress: bool,
) -> dict[str, Any]:
    """Faithfulness of the words of the generated captions: nouns with boxes, or else content words."""
    chosen, others, left_out = [], [], []
    bar = tqdm(captions.items(), desc="faithfulness", unit="photo", disable=None if progress else True)
    for number, caption in bar:
        try:
            references = None if phrases is None else phrases(records[number])
            words = captioner.examine(caption).words
        except CaptionlensError as error:
            left_out.append({"path": str(records[number].image), "message": str(error)})
            continue
        chosen.append(content_words(words) if references is None else named_nouns(words, references))
        others.append(function_words(words))
    return {
        "photographs": len(chosen),
        "share": SHARE,
        "words_are": "content words" if phrases is None else "nouns",
        **summarise_faithfulness(chosen, intervals=intervals),
        "function_words": summarise_faithfulness(others, intervals=intervals),
        "left_out": left_out,
    }


def read_report(path: Path) -> dict[str, Any]:
    """Read a REPORT.json of `Evaluation.save`.

    Raises:
        FileError: it cannot be read or is not such a report.
    """
    try:
        report = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise FileError(path, f"is not JSON ({error})") from error
    wanted = {"dataset", "split", "photographs", "decoding", "scores", "intervals"}
    if not isinstance(report, dict) or not wanted <= report.keys():
        raise FileError(path, "is not a report of captionlens evaluate")
    return report


def image_id(record: Record) -> int | str:
    """Image id of a photograph in COCO's formats: a number for COCO's own photographs, else a name."""
    return int(record.source_id) if record.source_id.isdecimal() else record.source_id
