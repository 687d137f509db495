"""Writing models: ONNX graphs, weights, card, the check of both, and the torch network behind the seam."""
