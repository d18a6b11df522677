"""Images and the boxes in them: decoded, hashed, drawn, matched."""

__all__ = ["box_geometry", "box_metrics", "phash", "pictures"]
