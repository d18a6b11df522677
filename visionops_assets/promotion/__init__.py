"""What is in production, since when and why; promotion and its history."""
