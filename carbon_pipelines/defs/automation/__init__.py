"""When to run: sensors that observe, schedules as fallback."""
