"""Readers for images, masks and labels; the synthetic renderer; paired views."""
