"""Saliency: from a photograph to a soft foreground map, a mask and its connected parts, without labels or weights."""
