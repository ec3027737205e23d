"""The background jobs: when each last ran, how that went, and when it runs next."""
