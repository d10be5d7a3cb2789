"""From images to shards, and from shards to the engine."""
