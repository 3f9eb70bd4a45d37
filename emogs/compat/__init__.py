"""Other libraries' signatures on emogs kernels: change an import line, keep the script."""
