"""Judge by eye, blind to system and rank: a sample of pairs, shown as thumbnails in a notebook, kept as qrels."""
