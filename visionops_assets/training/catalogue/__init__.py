"""Thin adapters between the protocol of models and the libraries that models come from: one file a library, which is
imported where a recipe names a model of it, and by nothing else.
"""

__all__: list[str] = []
