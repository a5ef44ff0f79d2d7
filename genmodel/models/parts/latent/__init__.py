"""Parts of models with latent variables."""
