"""Models that compare pictures with texts (CLIP, Radford et al. 2021): a small one of ours, and those of `open_clip`."""
