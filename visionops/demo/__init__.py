"""What `visionops demo` shows: its images, and its days in production."""
