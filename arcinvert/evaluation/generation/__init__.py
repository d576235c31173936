"""Distances between two sets of images: ``distances`` compares features, ``inception`` computes those of FID."""
