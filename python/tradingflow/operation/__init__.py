"""What an operator runs: waiting for the data services, checking an installation, back-up and restore."""
