"""Joins the pure engine to broker and database: what makes a cycle durable, and lets any worker go on with it."""
