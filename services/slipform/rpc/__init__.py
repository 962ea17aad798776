"""gRPC for every service: status mapping, servers, channels, conversions, proxies."""
