"""Where labelled images come from before they are prepared: a module for each usual form.

Opening an origin reads names and places alone, never the images.
"""

from alexnet_jax.data.origins.opening import open_origin
from alexnet_jax.data.origins.origin import Origin, Record, Split

__all__ = ["Origin", "Record", "Split", "open_origin"]
