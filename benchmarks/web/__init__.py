"""How fast the labelling screen answers: a study of any size, the product's own server, lean clients."""
