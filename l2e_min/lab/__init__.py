"""What the experiments need around the method: text, models, probing, training, benchmarks, claims."""
