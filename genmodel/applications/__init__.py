"""What a generator is good for besides samples: images completed, denoised and enlarged. Asks for abilities alone."""
