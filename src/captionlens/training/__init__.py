"""Training: batches, the Lightning module, the whole job, and the export of a model directory."""
