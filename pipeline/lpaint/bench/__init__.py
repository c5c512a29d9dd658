"""Speed, measured: ``lpaint bench NAME`` prints a table, and JSON. Nothing here is timed in tests."""
