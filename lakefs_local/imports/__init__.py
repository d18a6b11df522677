"""Import: objects that stay where they are, in local folders that this server may read."""
