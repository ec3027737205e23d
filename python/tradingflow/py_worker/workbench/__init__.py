"""For who writes nodes: a template to begin with, and a bench to run one node on."""
