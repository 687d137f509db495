"""Pictures of attention: maps over photographs, and figures."""
