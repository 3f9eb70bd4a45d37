"""The native operations: checks, autograd, shape functions and torch references, one file each."""
