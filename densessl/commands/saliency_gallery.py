"""The command `saliency_gallery`: a page of thumbnails by which to judge a folder of proposed masks."""

from pathlib import Path

from densessl.commands.checked_arguments import checked_arguments
from densessl.data.layouts import open_images
from densessl.report.saliency_gallery import write_saliency_gallery
from densessl.report.saliency_gallery_contents import gather_saliency_gallery
from densessl.report.saliency_gallery_records import read_label_scores, read_proposed_masks
from densessl.saliency.mask_provenance import masks_provenance
from densessl.structures import ImageSet

NUM_PER_SECTION = 24


@checked_arguments
def saliency_gallery(
    masks: Path,
    images: Path | None = None,
    data: Path | None = None,
    split: str = "train_aug",
    scores: Path | None = None,
    out: Path | None = None,
    num_per_section: int = NUM_PER_SECTION,
) -> Path:
    """Write one HTML page that shows whether masks are usable: a random sample, the extremes, the rejected images.

    The page opens from disk without network. `saliency` writes it by itself; this command writes it again, or with
    scores. Only the images on the page are read. One that cannot be read costs its picture, not the page.

    Args:
        masks: Folder that `saliency` wrote.
        images: The folder of images that the masks were made from (give this or --data).
        data: The data set, in VOC or COCO layout, that the masks were made from (give this or --images).
        split: The split of --data that the masks were made from.
        scores: Scores of single images, from `saliency_metrics --json FILE`; adds the best and the worst masks by
            IoU. The page then says that labels were used.
        out: Folder for index.html; by default `gallery` in the folder of masks.
        num_per_section: Thumbnails in a section at most; no section holds more than a quarter of the masks.

    Returns:
        The path of the page.

    Raises:
        InputError: Where the folder is not one of `saliency`, none of its images is found, a file is broken, or the
            page cannot be written.
    """
    return write_gallery(masks, open_images(images, data, split), scores, out, num_per_section)


def write_gallery(
    masks: Path,
    images: ImageSet,
    scores: Path | None = None,
    out: Path | None = None,
    num_per_section: int = NUM_PER_SECTION,
    images_per_second: float | None = None,
) -> Path:
    """Write the gallery of a folder of masks for images that are open already; arguments as `saliency_gallery`."""
    proposed = read_proposed_masks(masks)
    gallery = gather_saliency_gallery(
        proposed,
        images.images,
        masks_provenance(masks),
        num_per_section,
        images_per_second=images_per_second,
        scores=None if scores is None else read_label_scores(scores, proposed.facts),
    )
    page = write_saliency_gallery(gallery, (masks / "gallery" if out is None else out) / "index.html")
    print(f"gallery: {page}")
    return page
