"""The command `attention`: what an encoder sees in images, as contact sheets, a page, and raw arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import track

from densessl.attention.mass import PAPER_MASS, mass_mask
from densessl.commands.attention_arrays import is_stored, see_image, store_image
from densessl.commands.attention_looks import (
    OtherImage,
    fit_colours,
    half_distances,
    ious_with_mask,
    look_at,
    mean_of,
)
from densessl.commands.attention_output import (
    AttentionFolder,
    attention_record,
    claim_folder,
    page_facts,
    print_end,
    say,
    write_attention_record,
    write_png,
)
from densessl.commands.checked_arguments import checked_arguments
from densessl.commands.online_evaluation import spread_evenly
from densessl.data.image_folder import open_image_folder
from densessl.data.images import read_image
from densessl.data.masks import MaskFolder, open_mask_folder
from densessl.errors import InputError
from densessl.files import make_folder
from densessl.models.dense_encoder import Normalisation, TimmSource
from densessl.models.vision_encoder import VisionEncoder, open_vision_encoder
from densessl.report.attention_page import AttentionPage, SheetPicture, write_attention_page
from densessl.report.attention_sheet import draw_sheet, panels_of
from densessl.structures import ImageRef, Rejection

_SMALLEST_PX = 32


@dataclass(frozen=True)
class AttentionResult:
    """What `attention` did: images looked at, those of an earlier call, mean IoU of heads with masks, images left out.

    head_ious: by name (`head 0`, ..., `mean of the heads`); empty without masks or without attention.
    """

    out: Path
    num_images: int
    num_reused: int
    head_ious: dict[str, float]
    rejected: tuple[Rejection, ...]


@checked_arguments
def attention(
    encoder: str,
    out: Path,
    image: Path | None = None,
    images: Path | None = None,
    weights: Path | None = None,
    pretrained: bool = False,
    layer: int = -1,
    image_size: int | None = 480,
    mass: float = PAPER_MASS,
    query: str | None = None,
    match: Path | None = None,
    masks: Path | None = None,
    sharpness: str | None = None,
    remove_background: bool = True,
    panels: bool = False,
    num_shown: int = 24,
    output_stride: Literal[8, 16, 32] = 16,
    normalisation: Normalisation = "auto",
    seed: int = 0,
) -> AttentionResult:
    """Draw what an encoder sees: attention of [CLS], rollout, principal components and similarity of patches.

    Writes sheets/STEM.png, arrays/STEM.npz, attention.json and index.html below --out. A call that was stopped goes on
    where it ended when it is repeated: images that have arrays are not looked at again, but everything is drawn anew,
    as the colours of principal components are the same in all images. An image that cannot be used is listed with the
    reason, and tried again by the next call. Encoders without attention get feature energy and components alone.

    Args:
        encoder: a timm name, such as vit_small_patch16_224.dino or resnet50.
        out: folder to write; new, empty, or begun by this command with the same encoder, layer and sizes.
        image: one image (give this or images).
        images: a folder of images, nested or not.
        weights: a file with the encoder's weights, in any format that docs/attention.md lists.
        pretrained: let timm download its published weights instead. With neither, weights are random.
        layer: whose attention is drawn, from 0, or from the end: -1 is the last.
        image_size: long side in pixels at which the encoder sees images, the aspect kept; null for their own size.
        mass: share of the attention that masks keep.
        query: a point x,y in pixels of the image; similarity of all patches to the one there is drawn.
        match: another image, in which the patch of the query is looked for.
        masks: a folder of masks; says which head agrees with them best.
        sharpness: long sides in pixels, such as 224,320,640, at which features are compared with those at image_size.
        remove_background: colour only the foreground, as the first component parts it off.
        panels: write each picture by itself too, panels/STEM/NAME.png.
        num_shown: sheets on the page at most.
        output_stride: pixels of the image per cell of a convolutional network.
        normalisation: of the images: imagenet, timm (what timm records for the name), or auto (docs/encoders.md).
        seed: of random weights.

    Raises:
        InputError: settings that contradict each other, an encoder or weights that do not fit, no usable image.
    """
    sizes = _parse_sizes(sharpness)
    point = _parse_point(query)
    _check(image, images, image_size, match, point, num_shown)
    mass_mask(torch.ones(1, 1), mass)  # says what is wrong with the share before anything is loaded
    refs = open_image_folder(images, out).images if images is not None else (_single(image),)
    mask_folder = None if masks is None else open_mask_folder(masks, refs)
    other_photo = None if match is None else read_image(match)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = TimmSource(encoder, output_stride, weights, pretrained, normalisation, seed)
    network = open_vision_encoder(source, device)
    number = _layer_number(network, layer)
    say(network.weights.describe() if network.weights is not None else f"encoder: {network.description}")
    if network.no_attention:
        say(f"{network.no_attention}; drawing feature energy and principal components instead")
        if masks is not None:
            say(f"masks {masks} are not compared: there is no attention")
    folder = AttentionFolder(make_folder(out))
    record = attention_record(network, number, image_size, sizes, device)
    claim_folder(folder, record)
    todo = [ref for ref in refs if not is_stored(folder.arrays(ref.stem), ref)]
    rejected = _see_all(folder, todo, network, layer, image_size, sizes)
    missing = {item.stem for item in rejected}
    seen = [ref for ref in refs if ref.stem not in missing]
    if not seen:
        raise InputError(f"none of {len(refs)} images could be looked at; the first: {rejected[0].reason}")
    other = (
        None if other_photo is None else OtherImage(other_photo, see_image(other_photo, network, layer, image_size, ()))
    )
    drawing = _Drawing(mass, point, other, panels, remove_background)
    rejected += _draw_all(folder, seen, drawing)
    found, unmasked = _compare(folder, seen, mask_folder, mass)
    distances = _distances(folder, seen, image_size)
    page = AttentionPage(
        title=refs[0].stem if images is None else images.resolve().name,
        facts=page_facts(network, number, image_size, mass),
        notes=(network.no_attention,) if network.no_attention else (),
        sheets=[SheetPicture(ref.stem, folder.read_sheet(ref.stem)) for ref in _with_sheets(folder, seen, num_shown)],
        num_images=len(seen),
        head_ious=mean_of(list(found.values())),
        num_with_masks=len(found),
        sharpness=distances,
        rejected=(*rejected, *unmasked),
    )
    drawn_with = {"mass": mass, "query": query, "match": match, "masks": masks, "remove_background": remove_background}
    write_attention_record(folder, {**record, **drawn_with}, page, found)
    write_attention_page(page, out / "index.html")
    for item in page.rejected:
        say(f"left out {item.stem}: {item.reason}")
    print_end(page, out, len(refs) - len(todo))
    return AttentionResult(out, len(seen), len(refs) - len(todo), dict(page.head_ious), tuple(page.rejected))


@dataclass(frozen=True)
class _Drawing:
    """How images are drawn: share of attention, the chosen point, the image it is looked for in, single pictures."""

    mass: float
    point: tuple[float, float] | None
    other: OtherImage | None
    panels: bool
    remove_background: bool


def _see_all(
    folder: AttentionFolder,
    refs: Sequence[ImageRef],
    network: VisionEncoder,
    layer: int,
    image_size: int | None,
    sizes: tuple[int, ...],
) -> list[Rejection]:
    """Write the arrays of images; returns those that could not be used, whose arrays of an earlier call go."""
    rejected = []
    for ref in track(refs, "attention", console=Console(stderr=True), transient=True):
        try:
            store_image(folder.arrays(ref.stem), ref, network, layer, image_size, sizes)
        except InputError as error:
            folder.arrays(ref.stem).unlink(missing_ok=True)
            rejected.append(Rejection(ref.stem, str(error)))
    return rejected


def _draw_all(folder: AttentionFolder, refs: Sequence[ImageRef], drawing: _Drawing) -> list[Rejection]:
    """Write the sheet of each image; returns those that could not be drawn."""
    rejected = []
    paths = [folder.arrays(ref.stem) for ref in refs]
    basis = fit_colours(paths, remove_background=drawing.remove_background)
    for ref in refs:  # pictures of an earlier call would show other settings
        folder.remove_pictures(ref.stem)
    for ref, path in track(list(zip(refs, paths, strict=True)), "sheets", console=Console(stderr=True), transient=True):
        try:
            look = look_at(ref, path, basis, drawing.mass, drawing.point, drawing.other)
        except InputError as error:
            rejected.append(Rejection(ref.stem, f"not drawn: {error}"))
            continue
        write_png(folder.sheet(ref.stem), draw_sheet(look))
        if drawing.panels:
            for panel in panels_of(look):
                write_png(folder.panel(ref.stem, panel.name), panel.picture)
    return rejected


def _compare(
    folder: AttentionFolder, refs: Sequence[ImageRef], masks: MaskFolder | None, mass: float
) -> tuple[dict[str, dict[str, float]], list[Rejection]]:
    """Return the IoU of each head by image, and the images that could not be compared."""
    found: dict[str, dict[str, float]] = {}
    rejected: list[Rejection] = []
    for ref in refs if masks is not None else ():
        try:
            ious = ious_with_mask(folder.arrays(ref.stem), ref, masks, mass) if masks is not None else {}
        except InputError as error:
            rejected.append(Rejection(ref.stem, f"not compared: {error}"))
            continue
        if ious:
            found[ref.stem] = ious
    return found, rejected


def _distances(folder: AttentionFolder, refs: Sequence[ImageRef], image_size: int | None) -> dict[int, float]:
    by_image = [half_distances(folder.arrays(ref.stem), image_size) for ref in refs]
    named = mean_of([{str(size): value for size, value in item.items()} for item in by_image])
    return {int(size): value for size, value in named.items()}


def _with_sheets(folder: AttentionFolder, refs: Sequence[ImageRef], num_shown: int) -> list[ImageRef]:
    return spread_evenly([ref for ref in refs if folder.sheet(ref.stem).is_file()], num_shown)


def _layer_number(network: VisionEncoder, layer: int) -> int | None:
    """Return a layer's number from 0, None for an encoder without attention."""
    if network.transformer is None:
        if layer != -1:
            raise InputError(f"layer is {layer}, but {network.no_attention}; leave layer out")
        return None
    num_layers = network.transformer.num_layers
    if not -num_layers <= layer < num_layers:
        raise InputError(
            f"layer {layer} does not exist; the encoder has {num_layers}: 0 to {num_layers - 1}, or -1, ..."
        )
    return layer % num_layers


def _parse_sizes(sharpness: str | None) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted({int(word) for word in sharpness.split(",")})) if sharpness else ()
    except ValueError as error:
        raise InputError(f"sharpness {sharpness!r} is no list of sizes in pixels such as 224,320,640") from error
    if sizes and sizes[0] < _SMALLEST_PX:
        raise InputError(f"sharpness has size {sizes[0]}; sizes are long sides of at least {_SMALLEST_PX} pixels")
    return sizes


def _parse_point(query: str | None) -> tuple[float, float] | None:
    if query is None:
        return None
    try:
        x, y = (float(word) for word in query.split(","))
    except ValueError as error:
        raise InputError(f"query {query!r} is no point x,y in pixels such as 120,80") from error
    return x, y


def _check(
    image: Path | None,
    images: Path | None,
    image_size: int | None,
    match: Path | None,
    point: tuple[float, float] | None,
    num_shown: int,
) -> None:
    if (image is None) == (images is None):
        found = "neither image nor images" if image is None else "both image and images"
        raise InputError(f"attention is given {found}; give one of the two")
    if image_size is not None and image_size < _SMALLEST_PX:
        raise InputError(f"image_size is {image_size}; it must be at least {_SMALLEST_PX} pixels, or null")
    if match is not None and point is None:
        raise InputError(f"match {match} is given without query; say with query x,y which patch is looked for in it")
    if num_shown < 1:
        raise InputError(f"num_shown is {num_shown}; it must be at least 1 sheet")


def _single(image: Path | None) -> ImageRef:
    if image is None:
        raise InputError("attention is given neither image nor images; give one")
    read_image(image)  # says what is wrong with it before anything is loaded
    return ImageRef(image.stem, image)
