"""Names what images show, with probabilities."""
