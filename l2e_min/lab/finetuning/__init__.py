"""Fine-tuning: tasks, models with a head, training with inhibition, and what it brings (W24 section 4)."""
