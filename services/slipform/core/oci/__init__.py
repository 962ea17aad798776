"""OCI image-spec as values: digests, descriptors, manifests, indexes, configs, references."""
