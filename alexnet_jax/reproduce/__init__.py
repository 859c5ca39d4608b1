"""The paper's claims as experiments: a list as data, a command that runs it, tables of results.

Nothing imports this room but the command line. It may import any room below `benchmark`: `tools`,
`training` and what is under them; runs are made by the commands train and evaluate.
"""
