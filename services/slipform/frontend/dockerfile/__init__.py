"""Dockerfile text to typed instructions: lexer, directives, heredocs, words, flags, expansion."""
