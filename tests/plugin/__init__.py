"""Small projects on which the pytest plugin is tried, each run by a pytest of its own."""
