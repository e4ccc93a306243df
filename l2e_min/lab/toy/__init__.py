"""Networks small enough to see what inhibiting a neuron does to it: chapter 5's laboratory."""
