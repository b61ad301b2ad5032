"""Pullback samples fields (objects, panoramas, images of any size) from pretrained image diffusion models."""
