"""Grid features of photographs: backbones, their extraction, and the store on disk."""
