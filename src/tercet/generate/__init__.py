"""From declarations to text; pure, imports declare and errors only."""
