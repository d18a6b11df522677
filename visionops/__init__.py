"""What people type and import."""
