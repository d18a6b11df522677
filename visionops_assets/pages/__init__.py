"""One kind of page: words, tables and pictures, written once and shown as text, Markdown or HTML."""

__all__ = ["html_page", "page"]
