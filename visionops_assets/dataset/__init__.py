"""From a batch in the drop to a dataset version: audited, split, published.
Its shells, and what a batch passes through.
"""
