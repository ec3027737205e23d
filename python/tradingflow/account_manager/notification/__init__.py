"""Telling users what happened: webhooks, Telegram, e-mail. What was told, and what came of it, is kept."""
