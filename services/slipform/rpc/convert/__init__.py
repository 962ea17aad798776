"""Between protobuf messages and core values, one module per proto package."""
