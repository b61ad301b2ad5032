"""Denoising diffusion probabilistic models (Ho et al. 2020): likelihood, progressive coding and interpolation."""
