"""How well a recognizer tells people apart: verification figures."""
