"""Processes (hosts), the mesh of devices, and the settings of XLA."""
