"""What a model is: features, architectures, training, export."""
