"""Audits of a store whose recognizer is unknown: a map takes its templates to an open one, which is attacked."""
