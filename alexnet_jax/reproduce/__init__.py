"""The paper's claims as experiments: a list as data, a command that runs it, tables of results."""
