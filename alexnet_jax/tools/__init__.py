"""What one does with a trained network: each a command and a function.

May import `training` and the rooms below it; `benchmark` and `reproduce` stand above.
"""
