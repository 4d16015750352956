"""Losses as pure functions with thin modules around them, and the memory bank."""
