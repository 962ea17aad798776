"""Executor drivers: ``native`` (namespaces entered here) and ``oci`` (runc or crun)."""
