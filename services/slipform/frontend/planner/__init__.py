"""Typed instructions to a plan: stages, scopes, configuration folding, history."""
