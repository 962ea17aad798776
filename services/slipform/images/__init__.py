"""The image service: names, configs, history, archives, imports and unpacking."""
