"""REST of flows: endpoints, schemas, service (what they do) and store (what they ask the database)."""
