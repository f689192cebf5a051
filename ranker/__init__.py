"""From a request to a list: channels, features, ranking, rules."""
