"""The nodes, one file each. A file dropped in here is in the catalog at the next start."""
