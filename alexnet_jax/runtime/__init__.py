"""What every command needs of its process: errors, the terminal, flags, settings of XLA.

Imports no other room.
"""
