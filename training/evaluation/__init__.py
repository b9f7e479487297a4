"""Who is better, how sure that is, and what it takes to know more: pure functions over verdict counts."""
