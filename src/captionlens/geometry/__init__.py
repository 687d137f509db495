"""Grids of attention and boxes of a photograph: what of a grid boxes cover, cells, regions."""
