"""Attention maps of one layer for 100 images: time and memory beside transformers with output_attentions=True.

    python -m benchmarks.attention --images DIR

Both have the same weights (random, written by transformers, ViT-S of DINO's figures: patches of 8 pixels, images of
480) and hand over the same maps, the attention of [CLS] to the patches in the last layer; the largest difference over
all images is recorded. transformers returns the matrices of all layers, of which the row is taken, as its documentation
has it. Each runs in a process of its own, by turns, `--repeats` times; the row holds medians. Memory is the peak of the
resident set while maps are made, less what the process held with network and images in memory (on a GPU, torch's own
peak, likewise). Rows go to results/attention.jsonl.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.rows import append_row
from densessl.attention.maps import attention_maps
from densessl.data.images import list_images, read_image
from densessl.models.dense_encoder import TimmSource
from densessl.models.vision_encoder import open_vision_encoder
from densessl.models.vision_transformer import VisionTransformer

MIB = 2**20
PARTS = ("densessl", "transformers")
TIMM_NAMES = {8: "vit_small_patch8_224", 16: "vit_small_patch16_224"}

Maps = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    """Measure both by turns and append the row, or, as one of the two, measure and print."""
    arguments = _parse()
    if arguments.part is not None:
        print(json.dumps(_measure(arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        _write_network(Path(folder), arguments.patch)
        found: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
        for _ in range(arguments.repeats):
            for part in PARTS:
                found[part].append(_run_part(part, arguments, Path(folder)))
                print(part, found[part][-1], flush=True)
        difference = _difference(Path(folder))
    row = _row(arguments, found, difference)
    print(json.dumps(row))
    if not arguments.dry:
        append_row(arguments.results, row)


def _row(arguments: argparse.Namespace, found: dict[str, list[dict[str, Any]]], difference: float) -> dict[str, Any]:
    ours, theirs = (
        {key: statistics.median(item[key] for item in found[part]) for key in ("seconds", "peak_mib")} for part in PARTS
    )
    return {
        "benchmark": "attention",
        "encoder": TIMM_NAMES[arguments.patch],
        "size_px": arguments.size,
        "num_images": arguments.num_images,
        "batch": arguments.batch,
        "repeats": arguments.repeats,
        "device": found["densessl"][0]["device"],
        "seconds": ours["seconds"],
        "seconds_transformers": theirs["seconds"],
        "times_faster": theirs["seconds"] / ours["seconds"],
        "peak_mib": ours["peak_mib"],
        "peak_mib_transformers": theirs["peak_mib"],
        "share_of_memory": ours["peak_mib"] / theirs["peak_mib"],
        "largest_difference": difference,
        "transformers_version": found["transformers"][0]["version"],
    }


def _run_part(part: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.attention", "--part", part, "--folder", str(folder)]
    for name in ("images", "num_images", "size", "patch", "batch"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{part} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the maps of all images, reading left out, in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    maps, version = _maps_function(arguments.part, arguments.folder, arguments.patch, device)
    refs = list_images(arguments.images)[: arguments.num_images]
    if len(refs) < arguments.num_images:
        raise SystemExit(f"{arguments.images} holds {len(refs)} images, {arguments.num_images} are wanted")
    images = torch.empty(len(refs), 3, arguments.size, arguments.size)
    for place, ref in enumerate(refs):
        images[place] = _read(ref.path, arguments.size)
    batches = images.split(arguments.batch)
    num_heads = maps(batches[0][:1, :, :64, :64].to(device)).shape[1]  # loads what is loaded once
    cells = arguments.size // arguments.patch
    found = torch.zeros(len(images), num_heads, cells, cells)  # small blocks kept one by one would part the heap
    held = _start_memory(device)
    start = time.perf_counter()
    for first, batch in zip(range(0, len(images), arguments.batch), batches, strict=True):
        found[first : first + len(batch)] = maps(batch.to(device)).cpu()
    seconds = time.perf_counter() - start
    peak_mib = _peak_mib(device) - held
    np.save(arguments.folder / f"{arguments.part}.npy", found.numpy())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"seconds": seconds, "peak_mib": peak_mib, "device": name, "version": version}


def _maps_function(part: str, folder: Path, patch: int, device: torch.device) -> tuple[Maps, str]:
    """Return what makes maps (batch, heads, height, width) of images, and the version of the library."""
    if part == "densessl":
        source = TimmSource(TIMM_NAMES[patch], weights=folder / "model.safetensors", normalisation="imagenet")
        model = open_vision_encoder(source, device).transformer
        if not isinstance(model, VisionTransformer):
            raise SystemExit(f"{TIMM_NAMES[patch]} has no attention")
        return lambda images: attention_maps(model, images).maps[:, 0], "-"
    import transformers  # only this part needs it

    network = transformers.ViTModel.from_pretrained(folder, attn_implementation="eager").eval().to(device)

    @torch.no_grad()
    def maps(images: torch.Tensor) -> torch.Tensor:
        attentions = network(images, output_attentions=True, interpolate_pos_encoding=True).attentions
        grid = (images.shape[2] // patch, images.shape[3] // patch)
        return attentions[-1][:, :, 0, 1:].unflatten(-1, grid)

    return maps, transformers.__version__


def _write_network(folder: Path, patch: int) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=384, num_attention_heads=6, intermediate_size=1536, patch_size=patch, layer_norm_eps=1e-6
    )
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)


def _difference(folder: Path) -> float:
    ours, theirs = (np.load(folder / f"{part}.npy") for part in PARTS)
    return float(np.abs(ours - theirs).max())


def _read(path: Path, size: int) -> torch.Tensor:
    photo = cv2.resize(read_image(path), (size, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(photo).permute(2, 0, 1).float() / 127.5 - 1


def _start_memory(device: torch.device) -> float:
    """Give back what the allocator keeps for later, and forget the peak so far; returns what is held, in MiB."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / MIB
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else pages that reading the images left behind would hide the peak
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: the peak becomes what is held now
    return _status_mib("VmRSS")


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    return _status_mib("VmHWM")


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--num-images", type=int, default=100)
    parser.add_argument("--size", type=int, default=480, help="pixels a side")
    parser.add_argument("--patch", type=int, choices=sorted(TIMM_NAMES), default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print the row, do not append it")
    parser.add_argument("--results", type=Path, default=Path("results/attention.jsonl"))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
