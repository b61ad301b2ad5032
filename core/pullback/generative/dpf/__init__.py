"""Diffusion Probabilistic Fields (Zhuang et al. 2023): distributions over functions on the plane, in the cube, on the sphere."""
