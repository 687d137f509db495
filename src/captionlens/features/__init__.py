"""From photographs to grid features: backbones, extraction, and the store that keeps the grids on disk."""
