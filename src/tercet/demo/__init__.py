"""Five services that reproduce the order trace, and the traffic that drives them."""
