"""The services in one process: laptops, tests, sidecars; or any subset of them."""
