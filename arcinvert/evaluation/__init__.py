"""Measure recognizers and generated images.

- ``metrics``, ``intervals``: pure functions of scores and counts.
- ``allpairs``: all pairs of embeddings, and search in a gallery, in bounded memory.
- ``protocols``: verification, identification, templates, retrieval, angles.
- ``readers``: the files that a protocol reads; ``embedding`` embeds aligned crops.
- ``generation``: distances between two sets of images.
- ``curves``, ``plots``, ``tables``: figures of the papers, Markdown tables.
- ``self_test``: checks the image contract of a checkpoint.
"""
