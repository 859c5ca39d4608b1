"""Processes (hosts) and devices: joining a run, the mesh, signals, and lost processes.

May import runtime.
"""
