"""The model card of a model directory: data, settings, scores and terms of use, in Markdown."""

from collections.abc import Sequence
from typing import Any

from captionlens.errors import OptionError

# Terms of known data sets, by a part of the data set's name.
_TERMS = {
    "flickr8k": "Flickr8k's photographs belong to their photographers and are provided for research and education "
    "only (Hodosh, Young and Hockenmaier, JAIR 2013): use this model accordingly.",
    "flickr30k": "Flickr30k's photographs belong to their photographers and are provided for non-commercial research "
    "and education only (Young et al., TACL 2014): use this model accordingly.",
    "coco": "COCO's annotations are under CC BY 4.0; its photographs belong to their photographers, under Flickr's "
    "terms of use (Lin et al., ECCV 2014).",
}


def check_name(name: str) -> None:
    """Check a model's name, which occurs in its card, in captions and messages, and often as its folder's name.

    Raises:
        OptionError: the name is empty, has several lines, or contains a path separator.
    """
    if not name.strip() or not name.isprintable() or "/" in name or "\\" in name or name in (".", ".."):
        raise OptionError(f"name must be one line without / and \\, got {name!r}")


def terms_of(datasets: Sequence[str]) -> str:
    """Known terms of data sets, by their names."""
    known, unknown = [], []
    for dataset in datasets:
        terms = next((terms for name, terms in _TERMS.items() if name in dataset.lower()), None)
        if terms is None:
            unknown.append(dataset)
        elif terms not in known:
            known.append(terms)
    if not known:
        return "Not stated. The terms of its data set decide what it may be used for."
    if unknown:
        known.append(f"Those of {' and '.join(unknown)} are not stated.")
    return " ".join(known)


def _attention(network: dict[str, Any]) -> str:
    """Describe the attention in words, from a network's settings; older models have fewer of them."""
    kind = "hard additive attention" if network.get("attention_kind") == "hard" else "additive attention"
    heads = f" in {network['heads']} heads" if network.get("heads", 1) > 1 else ""
    sentinel = " with a visual sentinel" if network.get("sentinel") else ""
    return f"{kind} of {network['attention']} units{heads}{sentinel}"


_WEIGHTS = {
    "half": "- Weights in half precision; inference in ONNX Runtime, in single precision.",
    "int8": "- Weights in eight bits, small ones in half precision; inference in ONNX Runtime, in single precision.",
}


def with_weights(card: str, weights: str, *, changed: bool) -> str:
    """Set the card's line about the weights; if these were changed, it says that the scores are of the former ones."""
    line = _WEIGHTS[weights] + (
        " The scores\n  below were measured before its weights were made so." if changed else ""
    )
    return "\n".join(line if old in _WEIGHTS.values() else old for old in card.split("\n"))


def model_card(config: dict[str, Any], notes: str = "") -> str:
    """Write the README of a model directory from the content of its config.json, with `notes` (Markdown) at its end."""
    network, training, best = config["network"], config["training"], config["best_epoch"]
    steps = [*config.get("training_before", ()), training]
    rows, columns = config["grid"]
    return f"""# {config["name"]}

Captions photographs in one sentence and tells for every word where it looked: a grid of {rows} x {columns} places.

```python
import captionlens

caption = captionlens.load("path/to/this/directory").caption("photo.jpg")
```

## What it is

- Backbone: `{config["backbone"]}` with ImageNet weights, {_tuning(training)}; {network["channels"]} channels at each
  place.
- Network: preset `{steps[0]["preset"]}`: {_attention(network)}, {network.get("cell", "gru").upper()} of
  {network["units"]} units, embedding {network["embedding"]}, {network["vocabulary"]} words.
{_WEIGHTS[config["weights"]]}

## What it was trained on

Data: {config["trained_on"] or "not recorded"}. A captioner repeats what its data's photographs and
captions show, their mistakes and prejudices included.

Licence: {config["licence"]} The backbone's weights have terms of their own: EfficientNet-Lite's are under the Apache
License 2.0.

{_settings(steps)}

## How good it is

Epoch {best["epoch"]:.0f} was kept: CIDEr-D {100 * best["val_cider"]:.1f} on its validation photographs while it was
trained (times 100, beam {training.get("beam", 1)}).{_averaged(config.get("averaged", ()))}{_divided(config)}

{_evaluations(config, chose_epoch=training.get("keep", "best") == "best")}
{_section(notes)}"""


def _settings(steps: list[dict[str, Any]]) -> str:
    """Table of settings, with a column for each stage of the training."""
    names = ["value"] if len(steps) == 1 else [f"step {number}" for number in range(1, len(steps) + 1)]
    rows = [["setting", *names], ["---"] * (1 + len(steps))]
    for name in steps[-1]:
        if name not in ("backbone", "network") and (name != "preset" or len(steps) > 1):
            rows.append([name.replace("_", " "), *(str(step.get(name, "")) for step in steps)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _averaged(runs: Sequence[dict[str, Any]]) -> str:
    """Sentence about the runs whose weights were averaged, if there are several."""
    if not runs:
        return ""
    parts = " and ".join(f"{part['share']:.2f} of `{part['run']}`" for part in runs)
    return f" The\nweights are an average of this run's and others': {parts}."


def _divided(config: dict[str, Any]) -> str:
    """Sentence about the temperature of the exported logits, if it is not 1."""
    temperature = config.get("temperature", 1)
    return "" if temperature == 1 else f" The\nlogits are divided by {temperature:g}."


def _tuning(training: dict[str, Any]) -> str:
    blocks = training.get("finetune_blocks", 0)
    return f"its last {blocks} blocks trained further" if blocks else "frozen"


def _section(text: str) -> str:
    return f"\n{text.strip()}\n" if text.strip() else ""


_CONFIDENCE = "## How sure it is"


def with_confidence(card: str, record: dict[str, Any]) -> str:
    """Add a section about the confidence to a card, replacing an earlier one.

    Args:
        card: the card's text.
        record: of the calibration.
    """
    before, _, after = card.partition(f"\n{_CONFIDENCE}\n")
    _, next_heading, rest = after.partition("\n## ")
    ece = record["ece"]
    return f"""{before.rstrip()}

{_CONFIDENCE}

Its confidence was fitted to {record["photographs"]:,} photographs of {record["dataset"]}, split {record["split"]}.
It falls for photographs unlike the {record["train_photographs"]:,} of the training split.

| calibration error, times 100 | before | after, cross-validated |
| --- | --- | --- |
| words | {100 * ece["words"]["before"]:.1f} | {100 * ece["words"]["after"]:.1f} |
| captions | {100 * ece["captions"]["before"]:.1f} | {100 * ece["captions"]["after"]:.1f} |
{next_heading}{rest}"""


def _evaluations(config: dict[str, Any], *, chose_epoch: bool) -> str:
    """Tables of scores of each evaluated data set, or instructions to get one."""
    # Models of version 0.1 have one evaluation or None.
    evaluations = config.get("evaluations") or [one for one in (config.get("evaluation"),) if one]
    if not evaluations:
        return "`captionlens evaluate` measures it in full."
    return "\n".join(_evaluation(one, chose_epoch=chose_epoch) for one in evaluations)


def _evaluation(evaluation: dict[str, Any], *, chose_epoch: bool) -> str:
    """Table of scores on one data set."""
    decoding = evaluation["decoding"]
    rows = []
    for name, value in evaluation["scores"].items():
        low, high = evaluation["intervals"].get(name, (None, None))
        interval = "" if low is None else f"{100 * low:.1f} to {100 * high:.1f}"
        rows.append(f"| {name} | {100 * value:.1f} | {interval} |")
    chose = " (which also chose the epoch)" if chose_epoch and evaluation["split"] == "val" else ""
    return f"""`captionlens evaluate` on {evaluation["photographs"]} photographs of {evaluation["dataset"]}, split
{evaluation["split"]}{chose}, beam {decoding["beam"]}, length penalty {decoding["length_penalty"]:g}:

| score, times 100 | | 95 % interval |
| --- | --- | --- |
{chr(10).join(rows)}
{_section(_grounding(evaluation.get("grounding")))}{_section(_faithfulness(evaluation.get("faithfulness")))}"""


def _grounding(grounding: dict[str, Any] | None) -> str:
    """Scores of the attention against boxes, beside the baselines."""
    if grounding is None or "attention_correctness" not in grounding:
        return ""
    own = grounding["own_captions"]
    rows = [
        f"| {name} | {part['phrases']} | {100 * part['attention_correctness']:.1f} | {100 * part['uniform']:.1f} "
        f"| {100 * part['pointing_game']:.1f} | {100 * part['centre']:.1f} |"
        for name, part in (("phrases of reference captions", grounding), ("nouns of its own captions", own))
        if "attention_correctness" in part
    ]
    return f"""Where it looks, against boxes that people drew (times 100): the share of the attention inside them, and
how often its strongest place lies in one; beside attention that is the same everywhere, and the middle of the
photograph.

| | of them | in the boxes | everywhere | strongest place | middle |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}"""


def _faithfulness(faithfulness: dict[str, Any] | None) -> str:
    """Scores of the faithfulness of the attention."""
    if faithfulness is None or "falls_more" not in faithfulness:
        return ""
    return f"""With what it looked at blanked out, {100 * faithfulness["falls_more"]:.1f} % of
{faithfulness["words"]} {faithfulness["words_are"]} of its own captions become less probable than with an equally large
part blanked out that it did not look at."""
