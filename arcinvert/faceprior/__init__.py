"""What belongs to no recognizer: the face decoder, the generator, and synthetic faces with their latents."""
