"""An audit bench for multimodal retrieval: what the numbers are, how sure they are, what distorts them."""

__version__ = "0.1.0"
