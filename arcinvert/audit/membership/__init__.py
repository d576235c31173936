"""Membership: whether people's pictures were among those that a recognizer was trained on."""

from arcinvert.audit.membership.measure import Measured, SignalResult, measure
from arcinvert.audit.membership.signals import Signals, signals_of_files, signals_of_folder

__all__ = ["Measured", "SignalResult", "Signals", "measure", "signals_of_files", "signals_of_folder"]
