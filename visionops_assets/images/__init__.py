"""Images and the boxes in them: decoded, hashed, drawn, matched."""
