"""Taking a source as people have it: what lies there, what its files say, and which image each of it means."""
