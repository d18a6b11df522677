"""Taking a source as people have it: what lies there, what its files say, and which image each of it means."""

__all__ = [
    "box_coordinates",
    "class_names",
    "file_listing",
    "first_look",
    "formats",
    "image_columns",
    "image_source",
    "label_files",
    "plain_text",
    "reading",
    "source_files",
    "statements",
]
