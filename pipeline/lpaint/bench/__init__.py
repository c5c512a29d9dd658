"""Measure speed: ``lpaint bench NAME`` prints a table and can save JSON. Tests run the benchmarks but time nothing."""
