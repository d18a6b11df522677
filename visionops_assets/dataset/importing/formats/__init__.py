"""Formats that people have, each read into the same list of images with their annotations."""
