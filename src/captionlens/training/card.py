"""The model card that goes with a model directory."""

from typing import Any


def model_card(config: dict[str, Any]) -> str:
    """A README for a model directory, from the content of its config.json."""
    network, training, best = config["network"], config["training"], config["best_epoch"]
    rows, columns = config["grid"]
    settings = "\n".join(
        f"| {name.replace('_', ' ')} | {value} |"
        for name, value in training.items()
        if name not in ("preset", "backbone", "network")
    )
    return f"""# {config["name"]}

Captions photographs in one sentence and tells for every word where it looked: a grid of {rows} x {columns} places.

```python
import captionlens

caption = captionlens.load("path/to/this/directory").caption("photo.jpg")
```

## What it is

- Backbone: `{config["backbone"]}` with ImageNet weights, frozen; {network["channels"]} channels at each place.
- Network: preset `{training["preset"]}`: additive attention of {network["attention"]} units, GRU of
  {network["units"]} units, embedding {network["embedding"]}, {network["vocabulary"]} words.
- Weights in half precision; inference in ONNX Runtime, in single precision.

## What it was trained on

Data set: {config["trained_on"] or "not recorded"}. A captioner repeats what its data set's photographs and
captions show, their mistakes and prejudices included; the data set's licence decides what it may be used for.

| setting | value |
| --- | --- |
{settings}

## How good it is

Best epoch {best["epoch"]:.0f}: CIDEr-D {100 * best["val_cider"]:.1f} on its validation photographs
(times 100, beam {config["decoding"]["beam"]}). `captionlens evaluate` measures it in full.
"""
