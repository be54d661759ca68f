"""TensorFlow-Datasets builders, one package each; none of them needs TensorFlow."""
