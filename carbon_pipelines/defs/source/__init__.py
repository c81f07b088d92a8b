"""The source stage's assets."""
