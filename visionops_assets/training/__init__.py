"""From a manifest and a recipe to a challenger, bit for bit the same each time."""
