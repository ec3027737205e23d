"""What the three HTTP edges share: app factory, error translator, health, metrics, sign-in check."""
