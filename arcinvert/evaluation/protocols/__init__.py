"""The protocols by which recognizers are compared, one file each.

They take arrays. ``labeled_sets`` applies them to a labeled set without lists, ``verification_files`` applies
verification to what lies in files.
"""
