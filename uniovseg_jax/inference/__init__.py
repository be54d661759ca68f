"""Use of a trained model: numpy in, numpy out."""
