"""What `self_label` says while it works, and images one by one as it reads them."""

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import track

from densessl.data.images import read_image
from densessl.errors import InputError
from densessl.structures import ImageArray, ImageRef


def readable_images(
    images: Sequence[ImageRef], task: str, reject: Callable[[ImageRef, str], None] | None = None
) -> Iterator[tuple[ImageRef, ImageArray]]:
    """Yield images with their pixels, under a progress bar; one that cannot be read is passed over and said so."""
    for ref in track(images, task, total=len(images), console=Console(stderr=True)):
        try:
            image = read_image(ref.path)
        except InputError as error:
            say(f"left out: {error}")
            if reject is not None:
                reject(ref, str(error))
            continue
        yield ref, image


def say(text: str) -> None:
    """Print a line of progress on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(text)
