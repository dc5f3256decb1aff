"""What a request costs, beside other ways to observe it: `make bench`."""
