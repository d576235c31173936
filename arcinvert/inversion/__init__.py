"""Inversion: terms, parameterizations, transforms, the loop, and the presets made of them."""
