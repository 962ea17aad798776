"""Builds images: walks a plan with a content store, a snapshotter and an executor it is given."""
