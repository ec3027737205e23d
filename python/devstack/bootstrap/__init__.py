"""Installs what `make run`, `make test` and `make check` need and lack; uses the standard library only."""
