"""The HTTP interface of a shop's recommender, and its pages."""
