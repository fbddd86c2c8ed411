"""From a trained model to codes, rankings and their scores."""
