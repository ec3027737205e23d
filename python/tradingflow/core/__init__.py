"""What every room may lean on: settings, errors, logs, clock, ids, money. No IO, no framework."""
