"""Visualisation of attention: heat maps over photographs, and figures of whole captions."""
