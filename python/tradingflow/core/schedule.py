"""How schedules are written down, which the Python Worker's engine and queries over schedules must both know."""

# A flow that runs once, however its user wrote that.
ONCE = "0"
