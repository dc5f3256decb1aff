"""What is wanted, as frozen data; imports only errors and the standard library."""
