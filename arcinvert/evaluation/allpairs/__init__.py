"""Exact scores over many pairs of embeddings, in bounded memory.

- ``pairs``: verification over all pairs of one set; ``tiles`` computes the scores, ``streams`` keeps what is needed.
- ``search``: one set against another, block by block, with or without FAISS; ``ranks``: the rank of the right identity.
"""
