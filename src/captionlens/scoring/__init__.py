"""How good captions are: the official scores without Java, their intervals, and COCO's files."""
