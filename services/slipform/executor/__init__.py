"""Runs processes in root file systems: RUN steps and containers."""
