"""A page on this machine that shows how a face is reconstructed from an embedding; see :mod:`arcinvert.app.page`.

The page calls the functions of the commands. Only the page, its tabs and their callbacks need ``gradio`` (the extra
``app``).
"""
