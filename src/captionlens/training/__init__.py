"""Training of the captioning network with Lightning: batches, objectives, run folders, and export."""
