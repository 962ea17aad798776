"""Content drivers: where the bytes of blobs and ingests lie."""
