"""The command `paste`: scenes with several objects, made of images with one."""

from pathlib import Path

from rich.console import Console

from densessl.commands.checked_arguments import checked_arguments
from densessl.data.layouts import open_images
from densessl.data.object_masks import ObjectSettings, open_objects
from densessl.data.pasted_scenes import PasteSettings
from densessl.data.pasted_set import SPLIT, PastedSet, write_pasted_set
from densessl.saliency.mask_provenance import masks_provenance


@checked_arguments
def paste(
    out: Path,
    masks: Path,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "train_aug",
    seed: int = 0,
    num_workers: int | None = None,
    objects: ObjectSettings = ObjectSettings(),
    pasting: PasteSettings = PasteSettings(),
) -> PastedSet:
    """Paste objects of other images into the images of a set, for a promptable model to learn to tell objects apart.

    Proposals of foregrounds hold whatever stands together. Of images with a single object it is cut out and pasted
    beside, before and behind others, at random sizes and places, so that its outline there is known. No label is read.
    A call that was stopped is repeated. Train on the result with
    `train_promptable --data OUT --split train --masks OUT/annotations/instances_train.json`.

    Args:
        out: folder to write, in the COCO layout; new, empty, or begun by this command with the same settings.
        masks: the objects: a folder of `saliency` or of `segment --everything true`, a COCO instances json, or a folder
            of id maps or masks.
        images: a folder of images, nested or not (give this or --data).
        data: a data set in VOC or COCO layout (give this or --images); of it only the images are read.
        split: the split of --data.
        seed: of everything random.
        num_workers: processes that share the work; 0 for none but this one, null for as many as there are cores, fewer
            for small sets. They change no byte.
        objects: which masks are objects.
        pasting: how many objects are pasted, where and how large.

    Raises:
        InputError: input that cannot be used; the message says what to change.
    """
    image_set = open_images(images, data, split, out)
    chosen = open_objects(masks, image_set.images, objects)
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    console.print(chosen.source.describe())
    supervision = masks_provenance(masks)
    made = write_pasted_set(image_set, chosen, out, pasting, seed, supervision, num_workers)
    for item in made.rejected:
        console.print(f"left out {item.stem}: {item.reason}")
    left_out = f", {len(made.rejected)} left out" if made.rejected else ""
    found = f"{made.num_objects} objects, {made.num_pasted} of them pasted"
    what = "images" if pasting.scenes_per_image == 1 else f"scenes of {len(image_set) - len(made.rejected)} images"
    print(f"{made.num_images} {what}{left_out} with {found}: {out}")
    print(f"train on them: train_promptable --data {out} --split {SPLIT} --masks {made.annotations}")
    return made
