"""What is fitted to one recognizer: statistics, regressions, the auxiliary network, the cache."""
