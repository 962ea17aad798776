"""The docker-like command line: one module per command; parsing and printing only."""
