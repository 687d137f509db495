"""The backbone of a run: pretrained, or with its last blocks fine-tuned."""

from pathlib import Path

from captionlens.errors import RunError
from captionlens.features.backbones import Backbone, load_backbone
from captionlens.training.run_folder import RunFolder, kept_weights, open_run

TAIL = "tail."  # prefix of the names of the trained blocks' weights in a run


def starting_backbone(run: RunFolder) -> Backbone:
    """Load the backbone a run starts with, in evaluation mode: pretrained, or fine-tuned by the run it starts from.

    Raises:
        CaptionlensError: its weights are missing or do not fit.
    """
    if run.data.from_run:
        return tuned_backbone(open_run(Path(run.data.from_run)))
    weights = run.data.backbone_weights
    return load_backbone(run.config.backbone, Path(weights) if weights else None, run.config.image_size)


def tuned_backbone(run: RunFolder) -> Backbone:
    """Load the backbone of the kept epoch of a run, in evaluation mode.

    Raises:
        CaptionlensError: its weights are missing or do not fit.
    """
    backbone = starting_backbone(run)
    if run.config.finetune_blocks:
        _, tail = backbone.split(run.config.finetune_blocks)  # shares its weights
        kept = kept_weights(run.path)
        try:
            tail.load_state_dict({name[len(TAIL) :]: kept[name] for name in kept if name.startswith(TAIL)})
        except RuntimeError as error:
            wanted = f"{run.config.finetune_blocks} tuned blocks"
            raise RunError(run.path, f"best.safetensors is not of a run with {wanted} ({error})") from error
    return backbone
