"""Two models, or two states of the data, side by side: an opinion that promotes nothing."""
