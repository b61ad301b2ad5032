"""Models that compare pictures with texts (CLIP, Radford et al. 2021): a small one of our own, and those of `open_clip`."""
