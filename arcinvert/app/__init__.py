"""A page on one's own machine that shows how a face comes out of an embedding; see :func:`arcinvert.app.page.serve`.

The page calls what the commands call. ``gradio`` (the extra ``app``) is needed only by :mod:`~arcinvert.app.page`
and the tabs; the rest can be used and tested without it.
"""
