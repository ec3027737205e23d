"""The Monitor: follows chains and keeps blocks, contract events and discoveries equal to the canonical chain."""
