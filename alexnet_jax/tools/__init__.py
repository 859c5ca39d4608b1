"""What one does with a trained network, each a command and a function.

May import all rooms but `benchmark`, `reproduce` and `main`.
"""
