"""The prediction server: image in, prediction out, by what is in production at that moment."""
