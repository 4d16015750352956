"""The stage `predict`: the clusters that `cluster` found, given to new images without fitting again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.predict_output import (
    PredictFolder,
    claim_predict_folder,
    overlay_of,
    predict_record,
    write_predict_record,
)
from densessl.data.image_folder import open_image_folder
from densessl.data.images import read_image
from densessl.data.label_maps import read_label_map, write_label_map
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.errors import InputError
from densessl.files import make_folder, read_json
from densessl.machine import loader_processes
from densessl.saliency.generation import generate_proposals
from densessl.saliency.processing import reading_sha256
from densessl.saliency.proposals import SaliencySettings
from densessl.saliency.record_journal import ImageRecord, append_record, drop_cut_line, index_records
from densessl.segmenter import Segmenter
from densessl.structures import ImageRef, ImageSet, LabelMap, Rejection
from densessl.training.run_folder import environment_record


@dataclass(frozen=True)
class PredictResult:
    """What `predict` did: images with a label map, those of them that an earlier call had made, and those left out."""

    out: Path
    num_labelled: int
    num_reused: int
    rejected: tuple[Rejection, ...]


@checked_arguments
def predict(
    clusters: Path,
    images: Path,
    out: Path,
    masks: Path | None = None,
    run: Path | None = None,
    batch_size: int = 8,
    num_workers: int = -1,
) -> PredictResult:
    """Give new images the clusters that `cluster` found: label maps and overlays. Nothing is fitted, no label is read.

    Writes label_maps/STEM.png, overlays/STEM.png and predict.json below --out. A call that was stopped goes on where
    it ended when it is repeated; images that have a label map are done again only where their file, or their mask, has
    changed, but overlays are drawn anew where the names of clusters (CLUSTERS/names.yaml) have. An image or mask that
    cannot be used, or an image in which no foreground was found, is listed with the reason, and tried again by the next
    call.

    Args:
        clusters: the --out of `cluster`, or a run folder that holds clusters/.
        images: a folder of images, nested or not.
        out: folder to write; new, empty, or begun by this command with the same clusters, images and masks.
        masks: a folder of masks for the images. Without it the foreground is found as that of the clustered images
            was: by the saliency head, or by proposals with the same settings, below OUT/proposals. Where the
            clustered masks were made elsewhere, masks are needed.
        run: the run folder of the network, where it does not lie any more as it lay when `cluster` ran.
        batch_size: images per forward pass; it does not change the result.
        num_workers: loader processes; -1 chooses by the number of cores.

    Raises:
        InputError: weights that have changed since, masks that are missing, no image that could be labelled; the
            message says what to change.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1")
    image_set = open_image_folder(images, out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    segmenter = Segmenter.from_run(clusters, run, device)
    needs_proposals = segmenter.foreground_with(has_masks=masks is not None) == "masks" and masks is None
    settings = segmenter.proposal_settings if needs_proposals else None  # refused before anything is written
    given_masks = None if masks is None else open_mask_folder(masks, image_set.images)  # and so are masks
    make_folder(out)
    record = predict_record(segmenter, images, masks, environment_record(device))
    has_new_names = claim_predict_folder(out, record)
    folder = PredictFolder(out)
    _drop_outdated(folder, image_set, given_masks)
    done = [ref for ref in image_set.images if folder.label_map(ref.stem).is_file()]
    rejected = list(_redraw(segmenter, folder, done, always=has_new_names))
    todo = [ref for ref in image_set.images if not folder.label_map(ref.stem).is_file()]
    if todo:
        digests = {ref.stem: reading_sha256(ref, given_masks) for ref in todo}  # before any is read
        mask_folder, without_mask = given_masks, list[Rejection]()
        if settings is not None:
            mask_folder, without_mask = _propose(image_set, todo, out / "proposals", settings)
        rejected += without_mask
        missing = {item.stem for item in without_mask}
        workers = loader_processes(num_workers)
        given = [ref for ref in todo if ref.stem not in missing]
        rejected += _label(segmenter, folder, given, mask_folder, digests, batch_size, workers)
    num_labelled = sum(folder.label_map(ref.stem).is_file() for ref in image_set.images)
    write_predict_record(out, record, len(image_set), num_labelled, rejected)
    _print_end(out, image_set, num_labelled, len(done), rejected)
    return PredictResult(out, num_labelled, len(done), tuple(rejected))


def _drop_outdated(folder: PredictFolder, images: ImageSet, masks: MaskFolder | None) -> None:
    """Remove what was made of images, or of given masks, that hold something else now.

    Folders of earlier versions do not say; a file that cannot be read now is given the benefit of the doubt.
    """
    known = {stem: place.file_sha256 for stem, place in index_records(folder.out).items()}
    outdated = [
        ref.stem
        for ref in images.images
        if known.get(ref.stem) is not None
        and folder.label_map(ref.stem).is_file()
        and reading_sha256(ref, masks) not in (None, known[ref.stem])
    ]
    for stem in outdated:
        folder.label_map(stem).unlink()
        folder.overlay(stem).unlink(missing_ok=True)
    if outdated:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
            f"{len(outdated)} images hold something else than when they were labelled, or their masks do or are read "
            f"otherwise beside the others ({outdated[0]}{', ...' if len(outdated) > 1 else ''}): they are done again"
        )


def _propose(
    images: ImageSet, todo: list[ImageRef], proposals: Path, settings: SaliencySettings
) -> tuple[MaskFolder | None, list[Rejection]]:
    """Propose masks for the images; returns them, None where there is none at all, and images to do without mask."""
    generate_proposals(images, proposals, settings)
    reasons = {
        str(item["stem"]): str(item["reason"])
        for item in read_json(proposals / "rejected.json", "the images that saliency rejected")
    }
    rejected = [Rejection(ref.stem, reasons[ref.stem]) for ref in todo if ref.stem in reasons]
    if len(reasons) == len(images):
        return None, rejected
    return open_mask_folder(proposals, images.images), rejected


def _label(
    segmenter: Segmenter,
    folder: PredictFolder,
    images: list[ImageRef],
    masks: MaskFolder | None,
    digests: dict[str, str | None],
    batch_size: int,
    num_workers: int,
) -> Iterator[Rejection]:
    """Write overlay and label map of each image; yield those left out.

    masks: those of more images, maybe; None where the network finds the foreground. digests: of what each image is
    made from (`reading_sha256`).
    """
    if not images:
        return
    refs = {ref.stem: ref for ref in images}
    journal = folder.out / "records.jsonl"
    drop_cut_line(journal)
    results = segmenter.predict_all(images, masks and masks.only(images), batch_size, num_workers)
    for item in track(results, "predict", total=len(images), console=Console(stderr=True)):
        if isinstance(item, Rejection):
            yield item
            continue
        stem, label_map = item
        _write_overlay(segmenter, folder, refs[stem], label_map)
        append_record(journal, ImageRecord(stem, file_sha256=digests[stem]))
        write_label_map(folder.label_map(stem), label_map)  # last: it says that the image is finished


def _redraw(
    segmenter: Segmenter, folder: PredictFolder, images: list[ImageRef], *, always: bool
) -> Iterator[Rejection]:
    """Draw the overlays of finished images that lack one, or all; yield those that cannot be drawn."""
    for ref in images:
        if always or not folder.overlay(ref.stem).is_file():
            try:
                _write_overlay(segmenter, folder, ref, read_label_map(folder.label_map(ref.stem)))
            except InputError as error:
                yield Rejection(ref.stem, f"overlay not drawn: {error}")


def _write_overlay(segmenter: Segmenter, folder: PredictFolder, ref: ImageRef, label_map: LabelMap) -> None:
    overlay = overlay_of(
        read_image(ref.path), label_map, segmenter.value_names, has_background=segmenter.has_background
    )
    folder.write_overlay(ref.stem, overlay)


def _print_end(out: Path, images: ImageSet, num_labelled: int, num_reused: int, rejected: list[Rejection]) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    for item in rejected:
        console.print(f"left out {item.stem}: {item.reason}")
    if num_labelled == 0:
        raise InputError(f"none of {len(images)} images could be labelled; the first: {rejected[0].reason}")
    reused = f", {num_reused} finished before" if num_reused else ""
    left_out = f", {len(images) - num_labelled} left out" if num_labelled < len(images) else ""
    console.print(f"{num_labelled} label maps of {len(images)} images{reused}{left_out}: {out}")
