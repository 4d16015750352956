"""Promptable segmentation: masks from points, boxes and masks, with published weights or with one's own."""
