"""What a request costs most for, in C as well, where it could be compiled."""
