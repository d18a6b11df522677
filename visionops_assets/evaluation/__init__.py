"""Both models on one holdout, and the verdict of the gate."""
