"""The lake stage's assets."""
