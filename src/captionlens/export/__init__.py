"""Export of model directories: ONNX graphs, stored weights, model card, and the check against PyTorch."""
