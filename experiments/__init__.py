"""The comparisons of the paper at toy scale, and the looks inside that explain them."""
