"""What the lead's pages cost the server, on a study of many rounds: the product's views, in one process."""
