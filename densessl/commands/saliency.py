"""The command `saliency`: mask proposals for a folder of images or a split of a data set."""

from pathlib import Path

from densessl.data.layouts import open_images
from densessl.files import remove_abandoned_writes
from densessl.saliency.estimators import Method, Refinement
from densessl.saliency.generation import SaliencySummary, generate_proposals
from densessl.saliency.proposals import SaliencySettings


def saliency(
    out: Path,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "train_aug",
    method: Method = "fused",
    refine: Refinement = "colour_models",
    threshold: float = 0.5,
    min_area: float = 0.01,
    max_area: float = 0.99,
    keep_soft: bool = False,
    num_workers: int | None = None,
) -> SaliencySummary:
    """Propose foreground masks for images: no label is read, no weights are loaded, nothing is fitted to labels.

    The constants of the default are published ones, follow from each other, or were compared on rendered scenes. Its
    list of cues was drawn up with labelled photographs at hand (docs/saliency.md says what was looked at).

    Writes masks/STEM.png (0 and 255), proposals.json (COCO layout), rejected.json and saliency.json below --out. A
    run that was stopped goes on where it ended when it is started again.

    Args:
        out: folder to write; new, empty, or begun by this command with the same settings.
        images: a folder of images, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images).
        split: the split of --data to work on.
        method: the estimator; fused is the best, the others are single ideas to compare it with.
        refine: what is done to the soft map: colour_models (GrabCut seeded by it), guided_filter or none.
        threshold: soft values above it are foreground, in (0, 1).
        min_area: connected parts smaller than this fraction of the image are dropped, and images whose whole mask
            is smaller are rejected.
        max_area: images whose mask covers more than this fraction are rejected.
        keep_soft: also write the soft maps, soft/STEM.png.
        num_workers: processes that share the work; 0 for none but this one, by default one for each core.

    Returns:
        How many images got a mask, how many were rejected, and the throughput.

    Raises:
        InputError: input that cannot be used; the message says what to change.
    """
    settings = SaliencySettings(method, refine, threshold, min_area, max_area, keep_soft)
    remove_abandoned_writes(out)
    summary = generate_proposals(open_images(images, data, split), out, settings, num_workers)
    print(summary)
    return summary
