"""A network looked at: what it answers to a data set, why, and how that differs from others."""
