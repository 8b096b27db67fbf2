"""Training: examples in, a checkpoint that every serving stack loads out."""
