"""Training: the loop, the jitted steps, the update rule, schedules, evaluation and checkpoints.

May import `kernels`, `weights`, `model`, `data`, `parallel` and `runtime`. The config is read in
`plan` and `setup` alone; everything else gets numbers, arrays and objects.
"""
