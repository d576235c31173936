"""What an evaluation reads: sets, lists and stored embeddings."""
