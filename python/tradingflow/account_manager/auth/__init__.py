"""Sign-in with Ethereum, sessions, access and refresh tokens."""
