"""Training: the built-in tiny CLIP, and what learns on top of frozen embeddings."""
