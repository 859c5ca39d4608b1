"""The networks, as lists of layers to be compared by eye. Counts are over all towers."""

from alexnet_jax.model.networks import net2012, published, small

NETWORKS = {
    architecture.name: architecture
    for architecture in (*net2012.NETWORKS, *published.NETWORKS, *small.NETWORKS)
}
