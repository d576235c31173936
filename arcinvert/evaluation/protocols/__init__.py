"""The protocols by which recognizers are compared."""
