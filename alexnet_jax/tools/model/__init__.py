"""Show the networks: tables, comparisons and drawings."""
