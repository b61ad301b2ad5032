"""Image neural field diffusion (Chen et al. 2024): an autoencoder whose decoder draws at any resolution, and a latent model."""
