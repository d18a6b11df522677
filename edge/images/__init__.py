"""Bytes of an image to pixels, alike in training, evaluation, serving and on devices: limits, headers, decoders,
and the processes that decode what may do harm.
"""

__all__ = ["bounds", "decode", "decode_pool", "header", "jpeg_segments", "statistics"]
