"""Distances between two sets of images: Frechet and kernel distance."""
