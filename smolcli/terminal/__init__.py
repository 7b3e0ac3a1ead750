"""What people see: standard output, messages, the progress line."""
