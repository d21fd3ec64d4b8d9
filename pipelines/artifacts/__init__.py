"""The content-addressed store: keys, manifests, builds and lineage."""
