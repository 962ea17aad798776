"""The content service: blobs by digest, ingests by ref, leases, garbage collection."""
