"""How fast training is, against what, and how it would scale; what `alexnet-jax benchmark` runs.

Nothing imports this room but the command line. It may import any room below `reproduce`: `tools`,
`training`, `weights`, `kernels`, `model`, `data`, `parallel` and `runtime`.
"""
