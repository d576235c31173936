"""Migration of a store from one recognizer to another: the same kind of store, with mapped embeddings."""
