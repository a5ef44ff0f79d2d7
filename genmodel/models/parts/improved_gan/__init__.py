"""What the improved GAN alone is made of: its networks, and the techniques of Salimans et al. 2016."""
