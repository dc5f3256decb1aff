"""From words to calls; one command a file, no logic of its own."""
