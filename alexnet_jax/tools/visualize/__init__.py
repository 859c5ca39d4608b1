"""Pictures of weights, activations, training and errors, each a page of one command."""
