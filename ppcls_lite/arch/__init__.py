"""Networks: block tables, one class per family, the zoo, and weights of any framework."""
