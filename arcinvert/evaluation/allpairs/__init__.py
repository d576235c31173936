"""Exact figures over all pairs of embeddings, in bounded memory."""
