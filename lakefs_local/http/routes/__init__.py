"""The operations this server answers, by subject."""
