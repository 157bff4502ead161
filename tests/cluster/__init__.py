"""A real Kubernetes for the tests: its own programs built from Go modules, with or without a real node."""
