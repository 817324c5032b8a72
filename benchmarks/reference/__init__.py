"""Not a product: the shortest recipes that lose no token while nothing goes wrong, to compare with."""
