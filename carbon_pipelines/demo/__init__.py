"""The demo: a sample energy and carbon market that moves, and its way from source to lake."""
