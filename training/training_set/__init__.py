"""From votes to training examples: the rules, what each pair comes to, the receipt. Pure; no Django."""
