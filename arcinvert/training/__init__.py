"""Training: margin functions, the head, aligned faces, the trainer."""
