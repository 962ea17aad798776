"""Storage and execution that plug in: drivers import ``core`` and ``layer``, nothing else."""
