"""One kind of page: words, tables and pictures, written once as Markdown; a terminal and HTML are drawn from it."""

__all__ = ["html_page", "page"]
