"""What lakeFS tells after a commit, and the sensor that then looks at once."""
