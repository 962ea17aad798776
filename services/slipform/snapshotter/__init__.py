"""The snapshotter: keys, names, parents and leases over one driver; apply and diff."""
