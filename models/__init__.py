"""Item text and the encoder that turns it into vectors."""
