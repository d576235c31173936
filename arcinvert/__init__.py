"""arcinvert turns a face embedding back into a face."""

__version__ = "0.1.0"
