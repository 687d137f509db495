"""Evaluation of a captioner on a split: captions, scores with intervals, confidence, grounding, faithfulness."""

import json
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from captionlens.datasets.phrase_targets import phrase_of_words
from captionlens.datasets.phrases import PhraseReader
from captionlens.datasets.records import Record
from captionlens.errors import CaptionlensError, DatasetError, FileError, PhrasesMissing, UnreadableImage
from captionlens.files import write_text
from captionlens.geometry.grid_cells import SHARE
from captionlens.runtime.caption import Caption
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.decoding import DecodingOptions
from captionlens.scoring.confidence_scores import confidence_report
from captionlens.scoring.faithfulness_scores import content_words, function_words, known_nouns, named_nouns
from captionlens.scoring.faithfulness_scores import summarise as summarise_faithfulness
from captionlens.scoring.grounding import score_own, score_reference, summarise
from captionlens.scoring.scores import Scores, score_captions


@dataclass(frozen=True, slots=True)
class Judged:
    """A caption with the quality of its confidence: the caption, its references, its words' idf (n,), its CIDEr-D."""

    caption: Caption
    references: tuple[str, ...]
    idf: NDArray[np.float32]
    cider: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of `evaluate`: the report as plain values, and the photographs that could not be read."""

    report: dict[str, Any]
    scores: Scores
    failed: tuple[tuple[str, str], ...]  # path and cause
    judged: tuple[Judged, ...]  # the captions with words, if the captioner has a calibrated confidence


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
    nouns: Set[str] | None = None,
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
        nouns: singulars. If given, a data set of which no photograph has phrases is evaluated without the grounding,
            and its faithfulness is of those of these nouns that references have.
        faithfulness: measure the faithfulness of the captions' words, see `scoring.faithfulness_scores`.
        faithfulness_photographs: measure it for the first so many photographs only; by default for all.
        progress: show a bar on a terminal.

    Raises:
        DatasetError: no photograph could be read.
    """
    options = options or captioner.options
    if nouns is not None and phrases is not None:
        if any(_has_phrases(phrases, record) for record in records):
            nouns = None
        else:
            phrases = None
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
    judged = _judged(captioner, candidates, references, scores)
    if judged:
        report["confidence"] = _confidence(judged)
    if phrases is not None:
        report["grounding"] = _grounding(captioner, records, candidates, phrases, intervals, progress)
    if faithfulness:
        examined = dict(islice(candidates.items(), faithfulness_photographs))
        report["faithfulness"] = _faithfulness(captioner, records, examined, phrases, nouns, intervals, progress)
    return Evaluation(report, scores, tuple(failed), judged)


def evaluate_together(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Report of several data sets: each report by the data set's name, means of scores, and confidence on all together.

    Returns:
        `datasets`, the reports by name; `mean`, the means over the data sets of the scores that all of them have; and
        with a calibrated confidence `confidence`, that of all captions together, whose correlation with CIDEr-D is over
        captions of several sets.
    """
    reports = {evaluation.report["dataset"]: evaluation.report for evaluation in evaluations}
    names = [name for name in evaluations[0].scores.scores if all(name in e.scores.scores for e in evaluations)]
    together: dict[str, Any] = {
        "datasets": reports,
        "mean": {name: sum(e.scores.scores[name] for e in evaluations) / len(evaluations) for name in names},
    }
    judged = [one for evaluation in evaluations for one in evaluation.judged]
    if judged:
        together["confidence"] = _confidence(judged)
    return together


def _has_phrases(phrases: PhraseReader, record: Record) -> bool:
    try:
        return bool(phrases(record))
    except PhrasesMissing:
        return False
    except DatasetError:  # damaged ones are reported where they are used
        return True


def _judged(
    captioner: Captioner,
    captions: dict[int, Caption],
    references: dict[int, tuple[str, ...]],
    scores: Scores,
) -> tuple[Judged, ...]:
    """The captions with words and what their confidence is judged by; none without a calibrated confidence."""
    calibration = captioner.calibration
    if calibration is None:
        return ()
    return tuple(
        Judged(
            caption,
            references[number],
            calibration.idf[captioner.vocabulary.encode(caption.text)[1:-1]],
            scores.per_photograph["CIDEr-D"][number],
        )
        for number, caption in captions.items()
        if caption.words
    )


def _confidence(judged: Sequence[Judged]) -> dict[str, Any]:
    """Quality of the confidence, see `scoring.confidence_scores`."""
    return confidence_report(
        [one.caption for one in judged],
        [one.references for one in judged],
        [one.idf for one in judged],
        [one.cider for one in judged],
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
    nouns: Set[str] | None,
    intervals: bool,
    progress: bool,
) -> dict[str, Any]:
    """Faithfulness of the words of the generated captions: nouns with boxes, or right nouns, or else content words."""
    chosen, others, left_out = [], [], []
    bar = tqdm(captions.items(), desc="faithfulness", unit="photo", disable=None if progress else True)
    for number, caption in bar:
        try:
            references = None if phrases is None else phrases(records[number])
            words = captioner.examine(caption).words
        except CaptionlensError as error:
            left_out.append({"path": str(records[number].image), "message": str(error)})
            continue
        if references is not None:
            chosen.append(named_nouns(words, references))
        elif nouns is not None:
            chosen.append(known_nouns(words, nouns, records[number].captions))
        else:
            chosen.append(content_words(words))
        others.append(function_words(words))
    return {
        "photographs": len(chosen),
        "share": SHARE,
        "words_are": "nouns" if phrases is not None else "right nouns" if nouns is not None else "content words",
        **summarise_faithfulness(chosen, intervals=intervals),
        "function_words": summarise_faithfulness(others, intervals=intervals),
        "left_out": left_out,
    }


def save_report(path: Path, report: dict[str, Any]) -> None:
    """Write REPORT.json, of `evaluate` or `evaluate_together`."""
    write_text(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def read_reports(path: Path) -> list[dict[str, Any]]:
    """Read the reports in a REPORT.json of `captionlens evaluate`: one for each data set.

    Raises:
        FileError: it cannot be read or is not such a report.
    """
    try:
        report = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise FileError(path, f"is not JSON ({error})") from error
    several = isinstance(report, dict) and isinstance(report.get("datasets"), dict)
    reports = list(report["datasets"].values()) if several else [report]
    wanted = {"dataset", "split", "photographs", "decoding", "scores", "intervals"}
    if not reports or not all(isinstance(one, dict) and wanted <= one.keys() for one in reports):
        raise FileError(path, "is not a report of captionlens evaluate")
    return reports


def image_id(record: Record) -> int | str:
    """Image id of a photograph in COCO's formats: a number for COCO's own photographs, else a name."""
    return int(record.source_id) if record.source_id.isdecimal() else record.source_id
