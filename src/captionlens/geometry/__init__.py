"""Geometry of attention grids and bounding boxes: coverage, cells, regions."""
