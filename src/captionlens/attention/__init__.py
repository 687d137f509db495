"""Pictures of attention: maps over photographs, figures, one report for many photographs."""
