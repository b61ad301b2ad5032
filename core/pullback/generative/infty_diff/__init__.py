"""Mollified diffusion of pictures as functions (∞-Diff)."""
