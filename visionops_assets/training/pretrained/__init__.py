"""Weights to start from: fetched once from where they are published, kept in the artifact store by their digest, and
fitted to a fresh model.
"""

__all__ = ["kept_weights", "published_weights", "weights_fitting"]
