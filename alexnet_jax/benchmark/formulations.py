"""Other ways to compute the same step, each timed alone: fields of training.step.Steps.

Those that are in the list must give the same numbers; which one is faster depends on the machine.
"""

# name: what differs from Steps' own defaults
FORMULATIONS: dict[str, dict] = {"plain": {}}
