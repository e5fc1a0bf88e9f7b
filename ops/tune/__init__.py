"""`embedkit tune`: which layout and batching serve a model best on this machine, found by serving it."""
