"""Linear maps from the embeddings of one recognizer to those of another, fitted to pictures that both embedded."""
