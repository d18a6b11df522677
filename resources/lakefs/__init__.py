"""lakeFS behind a narrow interface; nothing else in the project talks to it."""
