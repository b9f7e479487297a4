"""What people submit, checked: one module per page."""
