"""Truth and predictions on disk, in COCO's forms and as label maps, and their scores."""
