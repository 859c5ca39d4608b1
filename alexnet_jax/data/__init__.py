"""From images on disk to the network's input: sources, stream, statistics, augmentation."""
