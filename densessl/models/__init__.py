"""Encoders (timm), segmentation decoders, heads, the momentum twin, and weight loading."""
