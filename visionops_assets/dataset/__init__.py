"""From a lakeFS commit to a manifest and a cache that training reads at the decoder's speed."""
