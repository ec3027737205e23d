"""The one way out to addresses users name: every such request goes through the guarded client."""
