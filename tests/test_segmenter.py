"""`Segmenter`: the settings by which it proposes masks; what it gives for images is tested with `predict`."""

from dataclasses import replace
from pathlib import Path

from densessl.evaluation.segmenter_file import ProposedMasks
from densessl.saliency.proposals import SaliencySettings
from densessl.segmenter import _proposal_settings


def test_settings_of_what_a_folder_holds_beside_the_masks_are_left_out() -> None:
    kept = SaliencySettings(method="deep_spectral", pretrained=True, refine="none", threshold=0.4)
    chosen = replace(kept, keep_soft=True, num_segments=4)
    assert _proposal_settings(ProposedMasks(chosen.plain()), Path("clusters")) == kept
