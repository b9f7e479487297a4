"""From the last label of a round to the first labelable pair of the next: the product and a plain script."""
