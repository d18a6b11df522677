"""The decoded samples of dataset versions, kept on disk and read by training at the decoder's speed."""

__all__ = ["sample_cache", "samples"]
