"""Before a flow goes live: what it would trade, what the vault would say to it, and what a day of it may cost."""
