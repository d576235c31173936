"""What belongs to no recognizer: where the pixels of an aligned face may go."""
