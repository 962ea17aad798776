"""The frontend service: Dockerfile text in, instructions, advice and a plan out; no I/O."""
