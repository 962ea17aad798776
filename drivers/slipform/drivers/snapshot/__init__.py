"""Snapshot drivers: how a stack of layers becomes one file system."""
