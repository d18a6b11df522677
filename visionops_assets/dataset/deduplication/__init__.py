"""Near duplicates: which images are copies of each other, and which are other exposures of one scene."""

__all__ = ["forensics", "image_views", "near_duplicates"]
