"""What runs now and then: import, train, gate, promote."""
