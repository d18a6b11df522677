"""The REST surface of the embedded server. Knows no SQL."""
