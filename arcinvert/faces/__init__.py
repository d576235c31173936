"""Photos and faces: detectors, five points, alignment."""
