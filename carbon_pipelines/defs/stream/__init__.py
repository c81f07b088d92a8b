"""The stream stage's assets."""
