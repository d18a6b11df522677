"""Keeping a data folder in order: collecting what nothing reaches, and checking that all is as it was stored."""
