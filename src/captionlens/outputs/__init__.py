"""What becomes of captions: text, JSON, JSON lines, CSV, COCO results, and files beside the photographs."""
