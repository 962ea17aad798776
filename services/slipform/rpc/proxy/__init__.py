"""Core Protocols implemented over a channel: callers cannot tell them from the real thing."""
