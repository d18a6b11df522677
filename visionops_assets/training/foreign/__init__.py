"""A finished ONNX file from elsewhere as a challenger: tried in a process of its own that it may end, put into the form
of what ships, and recorded with who says what of it.
"""

__all__ = ["foreign_challenger", "onnx_declaration"]
